"""Every error leaves the service as an RFC 9457 problem document."""

import errno
import json
from collections.abc import Mapping

import structlog
from flask import Flask, Response, g, request
from werkzeug.exceptions import ClientDisconnected, HTTPException

from gradkeel.contract.errors import ConfigError, FieldError, StrictJSONError
from gradkeel.contract.problems import MEDIA_TYPE, Problem
from gradkeel_service.errors import Refusal
from gradkeel_store import errors as store

log = structlog.get_logger(__name__)

RETRY_SECONDS = "5"

CODE_OF_STATUS = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "timeout",
    409: "conflict",
    411: "length_required",
    413: "too_large",
    414: "uri_too_long",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    422: "invalid",
    429: "rate_limited",
    431: "headers_too_large",
    501: "not_implemented",
    503: "unavailable",
    507: "storage_full",
}
"""Problem code for the statuses that Flask and werkzeug raise on their own."""

ALWAYS_SENT = {
    "unauthorized": {"WWW-Authenticate": 'Bearer realm="gradkeel"'},
    "foreign_origin": {"WWW-Authenticate": 'Bearer realm="gradkeel"'},
    "forbidden": {"WWW-Authenticate": 'Bearer realm="gradkeel", error="insufficient_scope"'},
    "rate_limited": {"Retry-After": RETRY_SECONDS},
    "quota": {"Retry-After": RETRY_SECONDS},
    "unavailable": {"Retry-After": RETRY_SECONDS},
    "in_flight": {"Retry-After": "1"},
    "locked": {"Retry-After": "1"},
}

_NOWHERE = "there is nothing at this address; /docs describes every address there is"

CODE_OF_STORE_ERROR: tuple[tuple[type[store.StoreError], str], ...] = (
    (store.NotFound, "not_found"),
    (store.InUse, "in_use"),
    (store.DatasetRejected, "dataset_rejected"),
    (store.NotEnded, "not_ended"),
    (store.InFlight, "in_flight"),
    (store.WrongOffset, "wrong_offset"),
    (store.Held, "locked"),
    (store.Gone, "gone"),
    (store.Conflict, "conflict"),
    (store.IdempotencyMismatch, "key_reused"),
    (store.BadCursor, "invalid"),
    (store.Unavailable, "unavailable"),
    (store.StorageFull, "storage_full"),
)
"""The first class that fits decides; what fits none is a failure of the service."""

FAILURES_OF_STORE = ("unavailable", "storage_full")
"""Problems that the operator should see in the log."""


UNEXPECTED = Refusal("internal", "an unexpected failure; the log holds it under the request_id")


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The response for a problem; headers that its code calls for are added."""
    body = json.dumps(problem.to_json(), ensure_ascii=False).encode()
    response = Response(body, status=problem.status, content_type=MEDIA_TYPE)
    response.headers.update(ALWAYS_SENT.get(problem.code, {}))
    response.headers.update(headers or {})
    response.headers["Cache-Control"] = "no-store"
    return response


def headers_of(refusal: Refusal) -> dict[str, str]:
    """The headers that go with the refusal, whatever the form of its body."""
    return ALWAYS_SENT.get(refusal.code, {}) | refusal.headers


def answer(refusal: Refusal) -> Response:
    """The response for a refusal raised while the current request was handled."""
    problem = Problem(
        refusal.code,
        refusal.detail,
        refusal.errors,
        instance=request.path,
        request_id=g.get("request_id"),
    )
    return problem_response(problem, refusal.headers)


def refusal_of(error: Exception) -> Refusal | None:
    """What a request, a line of a batch or a queued submission is refused with for this error.

    None for an error that is a failure of the service.
    """
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ConfigError):
        places = len(error.errors)
        detail = (
            error.errors[0].detail if places == 1 else f"{places} places of the config cannot be accepted"
        )
        return Refusal("invalid", detail, error.errors)
    if isinstance(error, StrictJSONError):
        return Refusal("bad_json", error.detail)
    code = next((code for kind, code in CODE_OF_STORE_ERROR if isinstance(error, kind)), None)
    if code is None:
        return None
    cursor = [FieldError("/after", "cursor", str(error))] if isinstance(error, store.BadCursor) else []
    return Refusal(code, str(error), cursor)


def on_known(error: Exception) -> Response:
    """The response for an error of a known kind."""
    refusal = refusal_of(error)
    if refusal is None:
        return _on_failure(error)
    if refusal.code in FAILURES_OF_STORE:
        log.error("store_failed", request_id=g.get("request_id"), error=str(error))
    return answer(refusal)


def _on_http_exception(error: HTTPException) -> Response:
    if isinstance(error, ClientDisconnected):
        return answer(Refusal("bad_body", "the connection ended before the body was complete"))
    status = error.code or 500
    code = CODE_OF_STATUS.get(status, "internal" if status >= 500 else "bad_request")
    kept = {name: value for name, value in error.get_headers() if name.lower() in ("allow", "retry-after")}
    detail = _NOWHERE if request.routing_exception and status == 404 else error.description or error.name
    return answer(Refusal(code, detail, headers=kept))


def _on_os_error(error: OSError) -> Response:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return answer(Refusal("storage_full", "the storage has no room left"))
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM):
        return answer(Refusal("unavailable", "the machine is out of descriptors, processes or memory"))
    return _on_failure(error)


def _on_failure(error: Exception) -> Response:
    log.error("request_failed", request_id=g.get("request_id"), path=request.path, exc_info=error)
    return answer(UNEXPECTED)


def register(app: Flask) -> None:
    """Answer every error of the app with a problem document."""
    app.register_error_handler(Refusal, answer)
    for kind in (ConfigError, StrictJSONError, store.StoreError):
        app.register_error_handler(kind, on_known)
    app.register_error_handler(HTTPException, _on_http_exception)
    app.register_error_handler(OSError, _on_os_error)
    app.register_error_handler(Exception, _on_failure)
