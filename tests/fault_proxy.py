"""Proxies that misbehave as told, in front of a real service: one by requests, one by bytes."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import re
import socket
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from fault_server import Seen

DEADLINE = 30.0
RESET = struct.pack("ii", 1, 0)
CHUNK = 64 * 1024


@dataclass
class Fault:
    """What happens to the next ``times`` requests whose line matches ``on``.

    ``how``: ``before`` cuts the connection before the request is passed on, ``after`` once the service has
    answered, ``truncate`` in the middle of its answer, ``stall`` holds the answer until the client has hung
    up, ``answer`` gives ``status`` and ``headers`` itself. ``stream`` cuts after so many bytes of the body.
    """

    how: str
    on: str = ""
    times: int = 1
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    bytes: int = 0


class FaultProxy:
    """Takes HTTP requests on loopback at ``url``; ``seen`` holds them, ``faults`` what is to happen."""

    def __init__(self, upstream: str, *faults: Fault) -> None:
        self.upstream = upstream
        self.faults = list(faults)
        self.seen: list[Seen] = []
        self._lock = threading.Lock()
        self._port = 0
        self.open()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        """Listen, on the same port as before if there was one."""
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        self._server.daemon_threads = True
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Refuse connections from now on."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fault_for(self, seen: Seen) -> Fault | None:
        with self._lock:
            self.seen.append(seen)
            line = f"{seen.method} {seen.path}"
            fault = next((f for f in self.faults if f.times > 0 and re.search(f.on, line)), None)
            if fault is not None:
                fault.times -= 1
            return fault

    def sent(self, on: str) -> list[Seen]:
        """The requests whose line matches."""
        return [seen for seen in self.seen if re.search(on, f"{seen.method} {seen.path}")]


class _Handler(http.server.BaseHTTPRequestHandler):
    """Passes one request on, or does to it what the proxy was told."""

    proxy: FaultProxy
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, self.path, headers, body)
        fault = self.proxy.fault_for(seen) or Fault("pass")
        if fault.how == "answer":
            self._head(fault.status, {**fault.headers, "Content-Length": "0"})
        elif fault.how != "before":
            with contextlib.closing(_forwarded(self.proxy.upstream, seen)) as upstream:
                self._pass_on(upstream.getresponse(), fault)

    def _pass_on(self, response: http.client.HTTPResponse, fault: Fault) -> None:
        if fault.how == "after":
            response.read()
            return
        if fault.how == "stall":
            _wait_for_hang_up(self.connection)
            return
        kept = ("Content-Length", "Transfer-Encoding", "Connection")
        headers = {name: value for name, value in response.getheaders() if name not in kept}
        length = response.getheader("Content-Length")
        framing = {"Content-Length": length} if length else {"Transfer-Encoding": "chunked"}
        bodyless = self.command == "HEAD" or response.status in (204, 304)
        self._head(response.status, {**headers, **({} if bodyless and not length else framing)})
        if not bodyless:
            self._body(response, fault, chunked=length is None)

    def _body(self, response: http.client.HTTPResponse, fault: Fault, *, chunked: bool) -> None:
        limit = fault.bytes if fault.how in ("truncate", "stream") else None
        for piece in _pieces(response, limit):
            framed = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(framed)
        if chunked and limit is None:
            self.wfile.write(b"0\r\n\r\n")

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response_only(status)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()

    do_GET = do_POST = do_HEAD = do_DELETE = answer

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output clean."""


def _forwarded(upstream: str, seen: Seen) -> http.client.HTTPConnection:
    where = urlsplit(upstream)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=DEADLINE)
    passed = {k: v for k, v in seen.headers.items() if k not in ("host", "connection", "transfer-encoding")}
    connection.request(seen.method, seen.path, seen.body or None, passed)
    return connection


def _pieces(response: http.client.HTTPResponse, limit: int | None) -> Iterator[bytes]:
    """The body as it comes, up to so many bytes."""
    left = limit
    while left is None or left > 0:
        piece = response.read1(65536 if left is None else left)
        if not piece:
            return
        yield piece
        left = None if left is None else left - len(piece)


def _wait_for_hang_up(connection: socket.socket) -> None:
    connection.settimeout(DEADLINE)
    with contextlib.suppress(OSError):
        connection.recv(1)


class CuttingProxy:
    """Passes connections on to ``port``; when the bytes sent up in all reach one of ``cuts``, that connection
    is reset on both sides. At ``hold`` bytes nothing goes on until ``release``; ``held`` is set then.
    ``sent`` counts the bytes that clients sent up, ``made`` the cuts.
    """

    def __init__(self, port: int, cuts: Iterable[int] = (), hold: int | None = None) -> None:
        self._target = ("127.0.0.1", port)
        self._cuts = sorted(cuts)
        self._hold = hold
        self._lock = threading.Lock()
        self._released = threading.Event()
        self.held = threading.Event()
        self.sent = 0
        self.made = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        self._listener.close()
        self.release()

    def release(self) -> None:
        """Let everything pass from here on."""
        self._released.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError):
                server = socket.create_connection(self._target)
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()
                threading.Thread(target=self._down, args=(server, client), daemon=True).start()
                continue
            client.close()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        try:
            cut = False
            while not cut and (piece := client.recv(CHUNK)):
                passed, cut = self._count(piece)
                server.sendall(piece[:passed])
                self._hold_on()
            if not cut:
                server.shutdown(socket.SHUT_WR)
                return
        except OSError:
            pass  # one side is gone: so is the other, below
        _reset(client)
        _reset(server)

    def _hold_on(self) -> None:
        if self._hold is not None and self.sent >= self._hold:
            self.held.set()
            self._released.wait()

    def _count(self, piece: bytes) -> tuple[int, bool]:
        """How much of a piece may pass, and whether the connection is cut after it."""
        with self._lock:
            if self._cuts and self.sent + len(piece) >= self._cuts[0]:
                passed = max(0, self._cuts.pop(0) - self.sent)
                self.sent += passed
                self.made += 1
                return passed, True
            self.sent += len(piece)
            return len(piece), False

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := server.recv(CHUNK):
                client.sendall(piece)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
