"""gunicorn's threaded worker with four gaps closed.

Headers that never come end the connection; faults of the transport are answered with problem documents;
streams learn that the process is to stop; and the application may ask for the connection to be closed.
"""

import json
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Any

from gunicorn import util
from gunicorn.http import errors
from gunicorn.workers.gthread import TConn, ThreadWorker

from gradkeel.contract.ids import REQUEST, new_id
from gradkeel.contract.problems import MEDIA_TYPE, Problem

HEADER_TIMEOUT_SECONDS = 30

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]

CODE_OF_ERROR: tuple[tuple[type[Exception], str], ...] = (
    (errors.LimitRequestLine, "uri_too_long"),
    (errors.LimitRequestHeaders, "headers_too_large"),
    (errors.UnsupportedTransferCoding, "not_implemented"),
    (errors.ParseException, "bad_request"),
)
"""What gunicorn's parser raises → problem code; the first class that fits decides."""


def transport_problem(error: Exception) -> Problem | None:
    """The problem of a request that could not be parsed; None where it is no fault of the client."""
    for kind, code in CODE_OF_ERROR:
        if isinstance(error, kind):
            return Problem(code, f"the request is malformed: {error}"[:300], request_id=new_id(REQUEST))
    return None


def raw_response(problem: Problem) -> bytes:
    """The whole HTTP response for a problem, after which the connection is closed."""
    body = json.dumps(problem.to_json(), ensure_ascii=True).encode()
    head = (
        f"HTTP/1.1 {problem.status} {problem.title}\r\nConnection: close\r\nContent-Type: {MEDIA_TYPE}\r\n"
        f"X-Request-Id: {problem.request_id}\r\nX-Content-Type-Options: nosniff\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii", "replace") + body


def closing(app: WsgiApp) -> WsgiApp:
    """``app`` with its `Connection: close` obeyed, a header that gunicorn otherwise drops."""

    def call(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            if any(name.lower() == "connection" and value.lower() == "close" for name, value in headers):
                start_response.__self__.force_close()
            return start_response(status, headers, *rest)

        return app(environ, start)

    return call


class HttpWorker(ThreadWorker):  # type: ignore[misc]
    """Named in ``gunicorn_settings.worker_class``."""

    flask: Any = None
    wsgi: Any

    def load_wsgi(self) -> None:
        super().load_wsgi()
        self.flask = self.wsgi
        self.wsgi = closing(self.wsgi)

    def handle(self, conn: TConn) -> Any:
        # gunicorn reads headers from a blocking socket without a limit; the kernel's own timeout bounds it.
        bound = struct.pack("ll", HEADER_TIMEOUT_SECONDS, 0)
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bound)
        return super().handle(conn)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        problem = transport_problem(exc)
        if problem is None:
            problem = Problem("internal", "an unexpected failure", request_id=new_id(REQUEST))
            self.log.error("request %s failed", problem.request_id, exc_info=exc)
        else:
            self.log.info("refused by the HTTP parser: %s (%s)", type(exc).__name__, problem.request_id)
        try:
            util.write_nonblock(client, raw_response(problem))
        except OSError:
            self.log.debug("the client was gone before its error could be sent")

    def handle_exit(self, sig: int, frame: Any) -> None:
        if self.flask is not None:
            self.flask.extensions["gradkeel"].stopping.set()
        super().handle_exit(sig, frame)
