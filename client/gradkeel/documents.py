"""Documents of the service as read-only objects: typed fields over the JSON, which stays at ``.raw``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar, overload

from gradkeel import display

T = TypeVar("T")

HIDDEN = ("id", "name", "key")
"""Keys of a document that are not listed: the title holds the first two, the last is a secret."""


class Field(Generic[T]):
    """One key of a document, read through ``read``. Assigning to it raises AttributeError."""

    def __init__(self, read: Callable[[Any], T]) -> None:
        self.read = read

    def __set_name__(self, owner: type, name: str) -> None:
        self.key = name

    @overload
    def __get__(self, document: None, owner: type) -> Field[T]: ...
    @overload
    def __get__(self, document: Document, owner: type) -> T: ...
    def __get__(self, document: Document | None, owner: type) -> Field[T] | T:
        return self if document is None else self.read(document.raw.get(self.key))

    def __set__(self, document: Document, value: T) -> None:
        raise AttributeError(f"{self.key} is read-only")


class Document:
    """A JSON object of the service. Two are equal where their JSON is."""

    __slots__ = ("_raw",)

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = dict(raw)

    @property
    def raw(self) -> dict[str, Any]:
        """The document as the service sent it."""
        return self._raw

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Document) and other._raw == self._raw

    def __hash__(self) -> int:
        return hash((type(self), self._raw.get("id")))

    def _html(self) -> str:
        """For notebooks: every plain value that the service sent, but no secret."""
        kept = [(k, v) for k, v in self._raw.items() if k not in HIDDEN and not isinstance(v, list)]
        return display.card(self._title(), (), display.facts(kept))

    def _title(self) -> str:
        name = type(self).__name__.removeprefix("Async").removesuffix("Data")
        return " ".join(str(text) for text in (name, self._raw.get("id"), self._raw.get("name")) if text)

    def _repr_html_(self) -> str:
        return self._html()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return display.bundle(repr(self), self._html())

    def __repr__(self) -> str:
        told = (self._raw.get(key) for key in ("id", "name", "state", "verdict"))
        return f"<{type(self).__name__} {' '.join(str(text) for text in told if text)}>"


def text(value: Any) -> str:
    return str(value)


def whole(value: Any) -> int:
    return int(value or 0)


def flag(value: Any) -> bool:
    return bool(value)


def mapping(value: Any) -> dict[str, Any]:
    return dict(value or {})


def texts(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in value or ())


def moment(value: Any) -> datetime:
    """An ISO 8601 time with its zone."""
    return datetime.fromisoformat(str(value))


def optional(read: Callable[[Any], T]) -> Callable[[Any], T | None]:
    """The same reader, where null stays None."""
    return lambda value: None if value is None else read(value)


def many(read: Callable[[Any], T]) -> Callable[[Any], tuple[T, ...]]:
    """A reader of a list of what ``read`` reads; null is an empty one."""
    return lambda value: tuple(read(item) for item in value or ())
