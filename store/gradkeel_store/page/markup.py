"""HTML by small functions: whatever is not `Html` already is escaped, so data cannot become markup."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Any

Child = Any  # None, text, a number, Html, or an iterable of those

# C0/C1 controls (but tab and newline), lone surrogates, and the marks that reorder text.
_UNSHOWABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")

_VOID = frozenset({"meta", "link", "br", "hr", "col", "input"})


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def showable(text: object) -> str:
    """The text with what cannot be shown, or would reorder its surroundings, replaced by U+FFFD."""
    return _UNSHOWABLE.sub("\ufffd", str(text))


def escape(child: Child) -> Html:
    """One child as markup: `Html` as it is, None as nothing, iterables joined, all else escaped."""
    if isinstance(child, Html):
        return child
    if child is None:
        return Html("")
    if isinstance(child, str):
        return Html(html.escape(showable(child)))
    if isinstance(child, Iterable):
        return Html("".join(escape(one) for one in child))
    return Html(html.escape(showable(child)))


def tag(element: str, /, *children: Child, **attributes: Any) -> Html:
    """An element. `cls` is class, a trailing underscore is dropped, other underscores become hyphens.

    An attribute of None or False is left out; True stands alone.
    """
    opening = f"<{element}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    return Html(opening) if element in _VOID else Html(f"{opening}{escape(children)}</{element}>")


def _attribute(key: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    name = "class" if key == "cls" else key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(showable(value))}"'


def shorten(text: object, limit: int = 120) -> str:
    """The text, cut in its middle where it is longer than `limit` characters."""
    whole = showable(text)
    if len(whole) <= limit:
        return whole
    tail = limit // 3
    return f"{whole[: limit - tail - 1]}…{whole[-tail:]}"


def name(text: object, limit: int = 80) -> Html:
    """A name that came with the data (a column, a layer), set apart from its surroundings."""
    cut = shorten(text, limit)
    full = showable(text)
    return tag("bdi", cut, cls="name", title=shorten(full, 400) if cut != full else None)


def table(
    head: Iterable[Child], rows: Iterable[Iterable[Child]], *, caption: str, cls: str = "", label: str = ""
) -> Html:
    """A table whose first column names its rows; wide ones scroll by themselves, the page does not.

    `label` names the table to a screen reader where its caption alone would not be unique on the page.
    """
    body = [
        tag("tr", [tag("th", cell, scope="row") if i == 0 else _cell(cell) for i, cell in enumerate(row)])
        for row in rows
    ]
    header = tag("thead", tag("tr", [tag("th", cell, scope="col") for cell in head]))
    inner = tag("table", tag("caption", caption), header, tag("tbody", body), cls=cls or None)
    return tag("div", inner, cls="table", tabindex=0, role="region", aria_label=f"Table: {label or caption}")


def _cell(cell: Child) -> Html:
    return cell if isinstance(cell, Html) and cell.startswith("<td") else tag("td", cell)


def details(summary: Child, *children: Child, opened: bool = False, cls: str = "more") -> Html:
    """A part that is folded until asked for (printing unfolds it)."""
    return tag("details", tag("summary", summary), *children, open=opened, cls=cls)
