"""What happens around every request: its id, the Host check, security headers, one log line, one count."""

import time

import structlog
from flask import Flask, Response, g, request
from werkzeug.sansio.utils import host_is_trusted

from gradkeel.contract.ids import REQUEST, new_id
from gradkeel_service import bodies
from gradkeel_service.bodies import CLOSE
from gradkeel_service.errors import Refusal
from gradkeel_service.parts import parts

log = structlog.get_logger(__name__)

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
PROBES = frozenset({"/healthz", "/readyz"})
"""Paths exempt from the Host check: probes address a machine, not a name."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def _begin() -> None:
    g.request_id = new_id(REQUEST)
    g.began = time.monotonic()


def _check_host() -> None:
    if request.path in PROBES:
        return
    trusted = [*LOOPBACK_HOSTS, *parts().settings.trusted_hosts]
    host = request.environ.get("HTTP_HOST", "")
    if not host or not host_is_trusted(host, trusted):
        raise Refusal("bad_host", "the Host header is missing or names a host that is not trusted here")


def _check_coding() -> None:
    """gunicorn lets known codings through undecoded; what was stored would not be what was sent."""
    coding = request.headers.get("Transfer-Encoding", "chunked").strip().lower()
    if coding != "chunked":
        raise Refusal(
            "not_implemented", "the only transfer coding that is understood is chunked", headers=CLOSE
        )


def _finish(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if bodies.left_unread():
        response.headers["Connection"] = "close"
    _account(response.status_code)
    return response


def _account(status: int) -> None:
    route = request.url_rule.rule if request.url_rule else "(none)"
    seconds = time.monotonic() - g.began
    parts().measures.count(request.method, route, status, seconds)
    key = g.get("key")
    tell = log.debug if request.path in PROBES else log.info
    tell(
        "request",
        method=request.method,
        route=route,
        status=status,
        seconds=round(seconds, 4),
        request_id=g.request_id,
        key_id=key.id if key else None,
    )


def register(app: Flask) -> None:
    app.before_request(_begin)
    app.before_request(_check_host)
    app.before_request(_check_coding)
    app.after_request(_finish)
