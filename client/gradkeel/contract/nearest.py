"""The name that was meant by a mistyped one."""

import difflib
import itertools
import re
from collections.abc import Iterable

MAX_COMPARED = 1000
"""So many names are compared: comparing takes time."""

MAX_MISTYPED = 64
"""Longer names are nobody's typing."""

MAX_LETTERS_OFF = 3
"""A name that is so many letters longer or shorter is another name."""


def nearest_name(name: str, names: Iterable[str]) -> str | None:
    """The one of ``names`` that was meant by ``name``, if any: other case or blanks first, then spelling."""
    plain = _plain(name)
    if not plain or len(plain) > MAX_MISTYPED:
        return None
    spellings: dict[str, str] = {}
    for known in names:
        spellings.setdefault(_plain(known), known)
    if plain in spellings:
        return spellings[plain]
    similar = (other for other in spellings if abs(len(other) - len(plain)) <= MAX_LETTERS_OFF)
    close = difflib.get_close_matches(plain, itertools.islice(similar, MAX_COMPARED), n=1, cutoff=0.7)
    return spellings[close[0]] if close else None


def _plain(name: str) -> str:
    """Without what people get wrong first: case, and blanks against underscores and dashes."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()
