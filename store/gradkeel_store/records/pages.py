"""Lists in pages: newest first or oldest first, by (created_at, id)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gradkeel_store.errors import BadCursor
from gradkeel_store.records.rows import Page

R = TypeVar("R")
MAX_LIMIT = 1000


def encode_cursor(created_at: datetime, row_id: str) -> str:
    text = f"{created_at.astimezone(UTC).isoformat()} {row_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[datetime, str]:
    """Raises ``BadCursor`` for text that ``encode_cursor`` did not make."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        when, row_id = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii").split(" ")
        created_at = datetime.fromisoformat(when)
        if created_at.tzinfo is None or not row_id.isprintable():
            raise ValueError("no time zone, or no id")
        created_at = created_at.astimezone(UTC)
    except (ValueError, OverflowError, binascii.Error) as error:
        raise BadCursor("the cursor is not one of this service") from error
    return created_at, row_id


def select_page(
    connection: Connection,
    query: sa.Select[Any],
    table: sa.Table,
    row_of: Callable[[Any], R],
    *,
    limit: int,
    after: str | None,
    order: str,
) -> Page[R]:
    """One page of ``query``. ``order`` is ``"desc"`` (newest first) or ``"asc"``; ``limit`` 1 to 1000."""
    if not 1 <= limit <= MAX_LIMIT or order not in ("asc", "desc"):
        raise ValueError(f"limit must be 1 to {MAX_LIMIT} and order asc or desc")
    place = sa.tuple_(table.c.created_at, table.c.id)
    if after is not None:
        created_at, row_id = decode_cursor(after)
        bound = sa.tuple_(sa.literal(created_at, table.c.created_at.type), sa.literal(row_id))
        query = query.where(place > bound if order == "asc" else place < bound)
    keys = [table.c.created_at, table.c.id]
    query = query.order_by(*(key.asc() if order == "asc" else key.desc() for key in keys)).limit(limit + 1)
    found = connection.execute(query).mappings().all()
    shown = found[:limit]
    more = len(found) > limit
    cursor = encode_cursor(shown[-1]["created_at"], shown[-1]["id"]) if more else None
    return Page(tuple(row_of(row) for row in shown), more, cursor)
