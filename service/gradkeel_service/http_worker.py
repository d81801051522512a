"""gunicorn's threaded worker with five gaps closed.

Headers that never come end the connection; faults of the transport are answered with problem documents;
streams learn that the process is to stop; the application may ask for the connection to be closed; and a
process out of descriptors answers 503 where gunicorn's would die with everything that it was at.
"""

import errno
import json
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable
from typing import Any

from gunicorn import util
from gunicorn.http import errors
from gunicorn.workers.gthread import TConn, ThreadWorker

from gradkeel.contract.ids import REQUEST, new_id
from gradkeel.contract.problems import MEDIA_TYPE, Problem

HEADER_TIMEOUT_SECONDS = 30
TURN_AWAY_SECONDS = 0.2
"""How long the request of a connection that is turned away may take to come."""
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

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
    later = "Retry-After: 5\r\n" if problem.status == 503 else ""
    head = (
        f"HTTP/1.1 {problem.status} {problem.title}\r\nConnection: close\r\nContent-Type: {MEDIA_TYPE}\r\n"
        f"{later}X-Request-Id: {problem.request_id}\r\nX-Content-Type-Options: nosniff\r\n"
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
    _spare: int | None = None

    def init_process(self) -> None:
        self._spare = os.open(os.devnull, os.O_RDONLY)
        super().init_process()

    def accept(self, listener: Any) -> None:
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            self.log.error("no descriptor is left for a connection: %s", error)
            self._turn_away(listener)

    def _turn_away(self, listener: Any) -> None:
        """Answer one connection with 503 through the descriptor that is kept for that."""
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(TURN_AWAY_SECONDS)
                connection.recv(65536)  # closing over unread bytes would take the answer along
                detail = "the server is out of descriptors; try again soon"
                connection.sendall(raw_response(Problem("unavailable", detail, request_id=new_id(REQUEST))))
        except OSError:
            time.sleep(TURN_AWAY_SECONDS)  # or this thread would spin on a connection that it cannot take
        try:
            self._spare = os.open(os.devnull, os.O_RDONLY)
        except OSError:
            self.log.error("the spare descriptor is gone until there are others")

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
