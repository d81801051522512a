"""The SDK's resumable uploads against the real service, over a line that is cut again and again."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from fault_proxy import CuttingProxy
from gradkeel import AsyncClient, Client
from gradkeel.bookmarks import bookmarks_folder
from gradkeel_store.records import tables
from processes import eventually
from service.conftest import Service

SIZE = 2_000_000
CUTS = [200_000, 500_000, 700_000, 1_300_000, 1_600_000]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("gradkeel.sansio.retry.FIRST_DELAY_SECONDS", 0.01)


def table(seed: int) -> bytes:
    """A CSV of its own for each seed."""
    digits = np.random.default_rng(seed).integers(0, 10, SIZE // 4)
    return ("a,b\n" + "\n".join(f"{d},1" for d in digits)).encode()[:SIZE]


@pytest.fixture
def proxy(service: Service) -> Iterator[CuttingProxy]:
    with CuttingProxy(service.port, CUTS) as proxy:
        yield proxy


def test_an_upload_cut_five_times_arrives_bit_for_bit(
    service: Service, proxy: CuttingProxy, tmp_path: Path
) -> None:
    content = table(1)
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    told: list[int] = []
    with Client(proxy.url, service.submitter) as client:
        data = client.datasets.upload(
            path, resumable=True, wait=False, header=True, progress=lambda sent, total: told.append(sent)
        )
    assert proxy.made == len(CUTS)
    assert data.sha256 == hashlib.sha256(content).hexdigest()
    assert (data.bytes, data.name) == (len(content), "t.csv")
    assert service.objects.read(data.sha256) == content
    assert service.records.get_dataset(service.project, data.id).options == {"header": True}
    assert told[-1] == len(content)
    assert not list(bookmarks_folder().iterdir())


def test_asyncio_is_cut_and_goes_on_too(service: Service, proxy: CuttingProxy) -> None:
    content = table(2)

    async def main() -> Any:
        async with AsyncClient(proxy.url, service.submitter) as client:
            return await client.datasets.upload(content, resumable=True, wait=False)

    data = asyncio.run(main())
    assert proxy.made == len(CUTS)
    assert service.objects.read(data.sha256) == content


@pytest.mark.parametrize("resumable", [True, False])
def test_of_what_is_there_no_byte_is_sent(service: Service, resumable: bool) -> None:
    content = table(3)
    with CuttingProxy(service.port) as line, Client(line.url, service.submitter) as client:
        first = client.datasets.upload(content, wait=False)
        before = line.sent
        again = client.datasets.upload(content, wait=False, resumable=resumable)
        assert line.sent - before < 2_000, "more than the headers of two requests went up"
    assert again.id == first.id


def held_uploads(service: Service) -> list[str]:
    """Ids of the uploads that a request is busy with."""
    query = sa.select(tables.uploads.c.id).where(tables.uploads.c.holder.is_not(None))
    with service.records.engine.connect() as connection:
        return list(connection.scalars(query))


def test_another_process_goes_on_where_the_first_was_stopped(service: Service) -> None:
    """As after Ctrl-C: what was stored is not sent again."""
    content = table(4)

    def stopped(sent: int, total: int) -> None:
        if sent > SIZE // 2:
            raise KeyboardInterrupt

    with CuttingProxy(service.port) as line:
        with Client(line.url, service.submitter) as client, pytest.raises(KeyboardInterrupt):
            client.datasets.upload(content, resumable=True, wait=False, progress=stopped)
        eventually(lambda: not held_uploads(service))  # a line that went takes the server a moment to notice
        with Client(line.url, service.submitter) as client:
            data = client.datasets.upload(content, resumable=True, wait=False)
        assert line.sent < SIZE + 100_000, "what had arrived was sent again"
    assert service.objects.read(data.sha256) == content
