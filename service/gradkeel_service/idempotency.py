"""``Idempotency-Key``: the same key and body replays the stored answer instead of doing the work twice."""

import hashlib
import re
from collections.abc import Callable

from flask import Response, request

from gradkeel_service.auth import project
from gradkeel_service.errors import invalid
from gradkeel_service.parts import parts
from gradkeel_store.records import Replay, Started

KEPT_HEADERS = ("Content-Type", "Location", "Retry-After")
MAX_OPERATION = 300


def body_digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def asked_key() -> str | None:
    """The request's Idempotency-Key; 422 where it is not 1 to 200 visible ASCII characters."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not re.fullmatch(r"[\x21-\x7e]{1,200}", key):
        raise invalid("", "idempotency_key", "Idempotency-Key must be 1 to 200 visible ASCII characters")
    return key


def once(sha256_hex: str, work: Callable[[], Response]) -> Response:
    """Do ``work`` at most once for the request's key and a body of this digest.

    Only answers below 400 are stored: a refused request may be mended and sent again under its key.
    """
    key = asked_key()
    if key is None:
        return work()
    operation = f"{request.method} {request.full_path.rstrip('?')}"[:MAX_OPERATION]
    begun = parts().records.begin_idempotent(project(), key, operation, sha256_hex)
    return _replay(begun) if isinstance(begun, Replay) else _do_and_store(begun, work)


def _do_and_store(begun: Started, work: Callable[[], Response]) -> Response:
    records = parts().records
    stored = False
    try:
        response = work()
        kept = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
        records.finish_idempotent(begun, response.status_code, kept, response.get_data())
        stored = True
        return response
    finally:
        if not stored:
            records.abandon_idempotent(begun)


def _replay(stored: Replay) -> Response:
    response = Response(stored.body, status=stored.status)
    response.headers.update(stored.headers)
    response.headers["Idempotent-Replayed"] = "true"
    return response
