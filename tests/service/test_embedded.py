"""The embedded broker: found, started, private, and with its data set aside when it cannot be loaded."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from gradkeel_service.errors import StackError
from gradkeel_service.stack import embedded
from gradkeel_service.stack.embedded import Broker
from gradkeel_store.settings import redis_url_of
from servers import LoggedProcess

READY = r"Ready to accept connections|ready to accept connections|server is now ready"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def started(broker: Broker) -> LoggedProcess:
    process = LoggedProcess(broker.command, READY)
    process.wait_ready()
    return process


@pytest.fixture(params=["socket", "port"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    """Over a Unix socket, and over loopback where the path is too long for one."""
    name = "d" if request.param == "socket" else "d" * 120
    yield Broker.prepare(tmp_path / name)


def test_it_answers_over_its_address(broker: Broker) -> None:
    assert not broker.answers()
    process = started(broker)
    try:
        assert broker.answers()
        with redis.Redis.from_url(redis_url_of(broker.url)) as client:
            assert client.config_get("appendonly") == {"appendonly": "yes"}
            assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    finally:
        process.kill()


def test_what_was_written_survives_kill_9(broker: Broker) -> None:
    process = started(broker)
    with redis.Redis.from_url(redis_url_of(broker.url)) as client:
        client.set("a", "b")
        client.config_set("appendfsync", "always")
        client.set("c", "d")
    process.kill()
    process = started(broker)
    try:
        with redis.Redis.from_url(redis_url_of(broker.url)) as client:
            assert (client.get("a"), client.get("c")) == (b"b", b"d")
    finally:
        process.kill()


def test_nobody_else_can_reach_it(broker: Broker) -> None:
    assert stat.S_IMODE(broker.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((broker.folder / "broker.conf").stat().st_mode) == 0o600
    if broker.password is None:
        return
    assert broker.password not in " ".join(broker.command)
    process = started(broker)
    try:
        assert isinstance(broker.address, tuple)
        with redis.Redis(*broker.address) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
    finally:
        process.kill()


def test_data_that_cannot_be_loaded_is_set_aside(folder: Path) -> None:
    broker = Broker.prepare(folder)
    process = started(broker)
    with redis.Redis.from_url(redis_url_of(broker.url)) as client:
        client.set("a", "b")
    process.process.terminate()
    process.process.wait(10)
    for file in (broker.folder / "appendonlydir").glob("*.aof"):
        file.write_bytes(b"no command at all\r\n" * 20)
    with pytest.raises(RuntimeError):
        started(broker)
    aside = broker.set_aside()
    assert aside is not None
    assert aside.is_dir()
    process = started(broker)
    process.kill()


def test_a_torn_end_is_cut_off(broker: Broker) -> None:
    """As a loss of power leaves it: the last command is written in part."""
    process = started(broker)
    with redis.Redis.from_url(redis_url_of(broker.url)) as client:
        client.config_set("appendfsync", "always")
        client.set("a", "b")
        client.set("torn", "x" * 100)
    process.kill()
    (file,) = (broker.folder / "appendonlydir").glob("*.incr.aof")
    os.truncate(file, file.stat().st_size - 50)
    process = started(broker)
    try:
        with redis.Redis.from_url(redis_url_of(broker.url)) as client:
            assert (client.get("a"), client.get("torn")) == (b"b", None)
    finally:
        process.kill()


def test_no_program_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setattr(embedded.importlib, "import_module", _missing)
    with pytest.raises(StackError, match="install valkey or redis"):
        embedded.find_program()


def _missing(name: str) -> None:
    raise ImportError(name)
