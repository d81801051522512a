"""Categories as numbers: the levels found in the training part, in sorted order, coded from 1; the rest is
0."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gradkeel.local.cells import MISSING_NUMBER, number_text, parse_number
from gradkeel_worker.data.table import Array, Integers, is_none

MISSING_LEVEL = ""
"""The level that missing cells form where enough training cells are missing."""
EMBEDDING, ONEHOT, ORDINAL = "embedding", "onehot", "ordinal"
_WIDEST = 32


@dataclass(frozen=True)
class Encoding:
    """How one column of categories enters the model.

    ``levels``: code i + 1 is levels[i]; code 0 is shared by rare and unseen levels. ``missing``: the code
    of a missing cell. ``other``: whether training rows had code 0 (one-hot then has a column for it).
    ``width``: of the embedding. ``markers``: texts of a missing cell.
    """

    name: str
    kind: str
    levels: tuple[str, ...]
    missing: int
    other: bool
    width: int
    markers: tuple[str, ...]

    def codes(self, values: Array) -> Integers:
        """Code of each cell, [n]. ``values``: str or None, [n]."""
        texts = pa.array(values, type=pa.string(), from_pandas=True)
        known = [level for level in self.levels if level != MISSING_LEVEL]
        position = np.array([self.levels.index(level) + 1 for level in known] + [0], dtype=np.int64)
        found = pc.fill_null(pc.index_in(texts, value_set=pa.array(known, type=pa.string())), len(known))
        codes: Integers = position[found.to_numpy(zero_copy_only=False)]
        codes[texts.is_null().to_numpy(zero_copy_only=False)] = self.missing
        return codes

    def text_codes(self) -> dict[str, int]:
        """Code of every text that a raw cell may hold and that is not 0; for the exported graph."""
        table = dict.fromkeys(self.markers, self.missing) if self.missing else {}
        return table | {level: i + 1 for i, level in enumerate(self.levels) if level != MISSING_LEVEL}

    def onehot_codes(self) -> tuple[int, ...]:
        """The codes that have a one-hot column, in order."""
        return tuple(range(0 if self.other else 1, len(self.levels) + 1))

    def level_name(self, code: int) -> str:
        """A code in words."""
        if code == 0:
            return "(other)"
        return self.levels[code - 1] or "(missing)"


def fit_encoding(policy: Any, name: str, values: Array, markers: Sequence[str | float]) -> Encoding:
    """Find the levels. ``values``: training cells, str or None, [n]; ``markers``: the config's own."""
    cells = np.where(is_none(values), MISSING_LEVEL, values)
    counted = pa.array(cells, type=pa.string()).value_counts()
    counts = dict(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True))
    levels = tuple(sorted(_frequent(counts, policy), key=level_order(counts)))
    covered = sum(counts[level] for level in levels)
    missing = levels.index(MISSING_LEVEL) + 1 if MISSING_LEVEL in levels else 0
    return Encoding(
        name,
        policy.kind,
        levels,
        missing,
        covered < len(values),
        _width(policy, len(levels)),
        marker_texts(markers),
    )


def filled_with_most_frequent(encoding: Encoding, values: Array) -> Encoding:
    """The encoding with missing cells taken as the most frequent level (the smallest of equals)."""
    observed = values[~is_none(values)]
    rare = bool(np.any(encoding.codes(observed) == 0))
    levels = tuple(level for level in encoding.levels if level != MISSING_LEVEL)
    bare = replace(encoding, levels=levels, missing=0, other=rare)
    counts = np.bincount(bare.codes(observed), minlength=len(levels) + 1)
    most = int(np.argmax(counts[1:])) + 1 if levels else 0
    return replace(bare, missing=most)


def level_order(levels: Any) -> Callable[[str], Any]:
    """Sort key of levels: by value where all are numbers, else by code point; the missing level comes
    first."""
    try:
        numbers = {level: parse_number(level) for level in levels if level != MISSING_LEVEL}
    except ValueError:
        return lambda level: level
    return lambda level: (level != MISSING_LEVEL, numbers.get(level, 0.0), level)


def _frequent(counts: dict[str, int], policy: Any) -> list[str]:
    kept = [level for level, count in counts.items() if count >= policy.min_count]
    most = getattr(policy, "max_levels", len(kept))
    return sorted(kept, key=lambda level: (-counts[level], level))[:most]


def _width(policy: Any, levels: int) -> int:
    if policy.kind != EMBEDDING:
        return 0
    chosen: int | None = policy.width
    return chosen if chosen is not None else min(_WIDEST, math.ceil(1.6 * max(levels, 1) ** 0.56))


def marker_texts(markers: Sequence[str | float]) -> tuple[str, ...]:
    """Every text that reads as missing, also with one blank beside it, as some files write their cells."""
    written = {marker for marker in markers if isinstance(marker, str)}
    numbers = [float(marker) for marker in markers if not isinstance(marker, str)]
    written |= {number_text(number, integer=integer) for number in numbers for integer in (True, False)}
    bare = sorted(MISSING_NUMBER | written)
    return tuple(dict.fromkeys([*bare, *(f" {text}" for text in bare), *(f"{text} " for text in bare)]))
