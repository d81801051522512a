"""Uploads made in place, read for real."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gradkeel_worker.ingest import Ingested, Limits, Options, Rejected, ingest

Read = Callable[..., Ingested]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """`read(bytes or text, limits=None, **options)`: what ingest makes of an upload with this content."""
    count = 0

    def run(content: bytes | str, limits: Limits | None = None, **options: Any) -> Ingested:
        nonlocal count
        count += 1
        work = tmp_path / f"work{count}"
        work.mkdir()
        source = tmp_path / f"upload{count}"
        source.write_bytes(content.encode() if isinstance(content, str) else content)
        return ingest(source, work, Options.from_json(options), limits)

    return run


@pytest.fixture
def refuse(read: Read) -> Callable[..., Rejected]:
    """As `read`, for content that must be refused: the refusal."""

    def run(content: bytes | str, limits: Limits | None = None, **options: Any) -> Rejected:
        with pytest.raises(Rejected) as caught:
            read(content, limits, **options)
        return caught.value

    return run


def cells(found: Ingested) -> dict[str, list[Any]]:
    """The stored table, column by column."""
    table: dict[str, list[Any]] = pq.read_table(found.path).to_pydict()
    return table


def column(found: Ingested, name: str) -> dict[str, Any]:
    """One column's profile."""
    return next(entry for entry in found.profile["columns"] if entry["name"] == name)


def types(found: Ingested) -> dict[str, str]:
    return {entry["name"]: entry["type"] for entry in found.profile["columns"]}
