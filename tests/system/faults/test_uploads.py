"""The web server is killed while a large file comes in: what was stored stays, and the upload goes on."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fault_proxy import CuttingProxy
from gradkeel import Client
from gradkeel.bookmarks import bookmarks_folder
from gradkeel.resources.datasets import Dataset

from .conftest import Victim

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

MIB = 2**20
SIZE = 40 * MIB
PIECE_BYTES = 16 * MIB


def await_stored(client: Client, size: int) -> None:
    """Until so many bytes of the one upload that this process began are stored."""
    (bookmark,) = bookmarks_folder().iterdir()
    address = f"/v1/uploads/{json.loads(bookmark.read_text())['upload']}"
    deadline = time.monotonic() + 60.0
    while client._http.get(address).json()["received"] < size:
        assert time.monotonic() < deadline


def test_the_web_server_in_a_resumable_upload(
    lasting: Victim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    content = b"a,b\n" + b"".join(b"%d,%s\n" % (row, b"x" * 1000) for row in range(SIZE // 1000))
    direct = lasting.client()
    port = int(direct.url.rpartition(":")[2])
    made: list[Dataset] = []
    with CuttingProxy(port, hold=25 * MIB) as line:
        key = direct._http.headers["Authorization"].removeprefix("Bearer ")
        through = Client(line.url, key, max_retries=8)
        told: list[int] = []
        options: dict[str, Any] = {
            "resumable": True,
            "wait": False,
            "progress": lambda sent, total: told.append(sent),
        }
        sending = threading.Thread(target=lambda: made.append(through.datasets.upload(content, **options)))
        sending.start()
        assert line.held.wait(60)
        await_stored(direct, PIECE_BYTES)
        lasting.kill("http")
        line.release()
        sending.join(120)
    went_on_from = [after for before, after in pairwise(told) if after < before]
    assert went_on_from and min(went_on_from) > PIECE_BYTES, "what was stored was sent again"
    (data,) = made
    assert data.sha256 == hashlib.sha256(content).hexdigest()
    assert [found.sha256 for found in direct.datasets.list()].count(data.sha256) == 1
