"""Fixtures of the client's tests: a server that misbehaves as told, and a home without any profile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fault_server import FaultServer, Reply

START = "gradkeel.sansio.retry.FIRST_DELAY_SECONDS"


@pytest.fixture(autouse=True)
def bare_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No profile, no address, no key; and retries that follow one another at once."""
    home = tmp_path / "home"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    for name in ("GRADKEEL_URL", "GRADKEEL_API_KEY", "GRADKEEL_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(START, 0.001)
    return home


@pytest.fixture
def fault_server() -> Iterator[Callable[..., FaultServer]]:
    """Make a server from its replies; it is closed at the test's end."""
    made: list[FaultServer] = []

    def make(*replies: Reply) -> FaultServer:
        made.append(FaultServer(*replies))
        return made[-1]

    yield make
    for server in made:
        server.close()
