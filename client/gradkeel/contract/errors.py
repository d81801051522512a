"""What can be wrong with a document.

ContractError
├── ConfigError        a training config that cannot be accepted; carries the places
└── StrictJSONError    bytes that are not strict JSON
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def escape_pointer(key: str) -> str:
    """One reference token of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


def unescape_pointer(token: str) -> str:
    """The key that a reference token names."""
    return token.replace("~1", "/").replace("~0", "~")


@dataclass(frozen=True)
class FieldError:
    """One fault and its place.

    ``pointer`` is a JSON pointer (RFC 6901) into the request; ``column``, ``row`` (0-based record) and
    ``line`` (1-based in the file) place a fault of the data.
    """

    pointer: str | None
    code: str
    detail: str
    column: str | None = None
    row: int | None = None
    line: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The fault as problem documents show it: places that do not apply are left out."""
        places = {"pointer": self.pointer, "column": self.column, "row": self.row, "line": self.line}
        return {"code": self.code, "detail": self.detail} | {k: v for k, v in places.items() if v is not None}


class ContractError(Exception):
    """Root of this package's errors."""


class ConfigError(ContractError):
    """A config that cannot be accepted. ``errors`` holds every fault found, each with its place."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(f"{e.pointer or '/'}: {e.detail}" for e in self.errors))


class StrictJSONError(ContractError):
    """Bytes that are not strict JSON. ``detail`` says what and, where known, at which offset."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)
