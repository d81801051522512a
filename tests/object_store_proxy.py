"""An HTTP proxy before a real object store that answers some requests itself, slowly, or not to the end."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections import deque
from dataclasses import dataclass
from urllib.parse import urlsplit

DROPPED = ("transfer-encoding", "connection", "content-length")


@dataclass(frozen=True)
class Fault:
    """What becomes of one request.

    ``status``: answered so, not passed on. ``seconds``: passed on after so long. ``cut``: the answer's body
    ends after so many bytes, with its length as declared. ``body``: in place of the answer's body.
    """

    status: int | None = None
    seconds: float = 0.0
    cut: int | None = None
    body: bytes | None = None


class ObjectStoreProxy:
    """Before ``target`` (http://host:port). Planned faults are used up one by one; then all is passed on."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.faults: dict[str, deque[Fault]] = {}
        self.seen: list[str] = []
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def next(self, method: str, *faults: Fault) -> None:
        """What the next requests of this method meet."""
        self.faults[method] = deque(faults)

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def fault_for(self, method: str) -> Fault:
        """What this request meets."""
        self.seen.append(method)
        planned = self.faults.get(method)
        return planned.popleft() if planned else Fault()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    proxy: ObjectStoreProxy


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def pass_on(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.proxy.fault_for(self.command)
        if fault.status is not None:
            self._answer(fault.status, [], b"", fault)
            return
        self.server.proxy.closing.wait(fault.seconds)
        onward = http.client.HTTPConnection(self.server.proxy.target, timeout=30)
        onward.request(self.command, self.path, sent, dict(self.headers))
        answer = onward.getresponse()
        self._answer(answer.status, answer.getheaders(), answer.read(), fault)
        onward.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, fault: Fault) -> None:
        self.send_response_only(status)
        body = body if fault.body is None else fault.body
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        for name, value in headers:
            if name.lower() not in DROPPED:
                self.send_header(name, value)
        is_head = self.command == "HEAD"
        self.send_header("Content-Length", lengths[0] if is_head and lengths else str(len(body)))
        self.end_headers()
        if not is_head:
            self.wfile.write(body[: fault.cut])
        self.close_connection = fault.cut is not None

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""
