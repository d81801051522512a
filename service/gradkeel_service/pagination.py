"""Lists: ``?limit=&after=&order=`` → ``{data, has_more, next_cursor}``."""

from typing import Any, Protocol

import marshmallow as ma

from gradkeel_service.queries import WholeNumber

MAX_LIMIT = 100


class PageQuery(ma.Schema):
    limit = WholeNumber(
        1, MAX_LIMIT, load_default=20, metadata={"description": "How many at most, 1 to 100."}
    )
    after = ma.fields.String(load_default=None, metadata={"description": "next_cursor of the page before."})
    order = ma.fields.String(
        load_default="desc",
        validate=ma.validate.OneOf(["asc", "desc"]),
        metadata={"description": "By creation: desc (newest first) or asc."},
    )


class Row(Protocol):
    def to_json(self) -> dict[str, Any]: ...


class Page(Protocol):
    @property
    def rows(self) -> tuple[Row, ...]: ...
    @property
    def has_more(self) -> bool: ...
    @property
    def next_cursor(self) -> str | None: ...


def page_document(page: Page) -> dict[str, Any]:
    """One page of rows as the API shows it."""
    return {
        "data": [row.to_json() for row in page.rows],
        "has_more": page.has_more,
        "next_cursor": page.next_cursor,
    }
