"""What the caller may say about a file, and how much of it is read."""

import codecs
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradkeel_worker.ingest.errors import rejected, shown

DELIMITERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
TRUE = frozenset({"true", "1", "yes"})
FALSE = frozenset({"false", "0", "no"})


@dataclass(frozen=True)
class Options:
    """Overrides of what the file itself shows; None means: look.

    delimiter: one character.    decimal: "." or ",".    encoding: a Python text codec.
    header: whether the first record is one.
    """

    delimiter: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    header: bool | None = None

    @classmethod
    def from_json(cls, options: Mapping[str, Any] | None) -> "Options":
        """Options as the data set's record keeps them.

        Raises:
            Rejected: when one of them has no meaning.
        """
        given = {key: value for key, value in (options or {}).items() if value not in (None, "")}
        return cls(
            delimiter=_delimiter(given.get("delimiter")),
            decimal=_decimal(given.get("decimal")),
            encoding=_encoding(given.get("encoding")),
            header=_header(given.get("header")),
        )


def _delimiter(value: Any) -> str | None:
    if value is None:
        return None
    delimiter = DELIMITERS.get(str(value), str(value))
    if len(delimiter) != 1 or delimiter in '"\r\n' or ord(delimiter) > 127:
        raise rejected("bad_option", f"the delimiter must be one ASCII character, not {shown(str(value))}")
    return delimiter


def _decimal(value: Any) -> str | None:
    if value is None:
        return None
    if value not in {".", ","}:
        raise rejected("bad_option", f"decimal must be '.' or ',', not {shown(str(value))}")
    return str(value)


def _encoding(value: Any) -> str | None:
    if value is None:
        return None
    try:
        codec = codecs.lookup(str(value))
    except LookupError:
        codec = None
    if codec is None or not getattr(codec, "_is_text_encoding", False):
        raise rejected("bad_option", f"there is no text encoding called {shown(str(value))}")
    return codec.name


def _header(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    word = str(value).lower()
    if word not in TRUE | FALSE:
        raise rejected("bad_option", f"header must be true or false, not {shown(str(value))}")
    return word in TRUE


@dataclass(frozen=True)
class Limits:
    """How much is read before a file is refused."""

    unpacked_bytes: int = 8 << 30
    columns: int = 5_000
    rows: int = 0  # 0: any number
    record_bytes: int = 2 << 20
    memory_mb: int = 160
    threads: int = 2
