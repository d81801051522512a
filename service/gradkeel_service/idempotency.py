"""``Idempotency-Key``: the same key and body replays the stored answer instead of doing the work twice."""

import hashlib
import re
from collections.abc import Callable
from typing import TypeVar

from flask import Response, request

from gradkeel_service.auth import project
from gradkeel_service.errors import invalid
from gradkeel_service.parts import parts
from gradkeel_store.records import Answering, Replay, Started

Made = TypeVar("Made")

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


class Keeping:
    """The keeping of this request's answer; ``started`` is None where no key asks for it."""

    def __init__(self, started: Started | None) -> None:
        self._started = started
        self._handed_over = False

    def along_with(self, render: Callable[[Made], Response]) -> Answering[Made] | None:
        """For the record's own transaction: the answer, once ``render`` is told what was made."""
        if self._started is None:
            return None

        def rendered(made: Made) -> Replay:
            answer = _kept(render(made))
            self._handed_over = True
            return answer

        return Answering(self._started, rendered)

    def finish(self, response: Response) -> None:
        """Keep the answer in a transaction of its own, unless it was kept along with its record."""
        if self._started is not None and not self._handed_over:
            kept = _kept(response)
            parts().records.finish_idempotent(self._started, kept.status, kept.headers, kept.body)

    def abandon(self) -> None:
        """Free the key again, unless an answer was kept."""
        if self._started is not None:
            parts().records.abandon_idempotent(self._started)


def once(sha256_hex: str, work: Callable[[Keeping], Response]) -> Response:
    """Do ``work`` at most once for the request's key and a body of this digest.

    Only answers below 400 are stored: a refused request may be mended and sent again under its key.
    """
    key = asked_key()
    if key is None:
        return work(Keeping(None))
    operation = f"{request.method} {request.full_path.rstrip('?')}"[:MAX_OPERATION]
    begun = parts().records.begin_idempotent(project(), key, operation, sha256_hex)
    return _replay(begun) if isinstance(begun, Replay) else _do_and_keep(Keeping(begun), work)


def _do_and_keep(keeping: Keeping, work: Callable[[Keeping], Response]) -> Response:
    done = False
    try:
        response = work(keeping)
        keeping.finish(response)
        done = True
        return response
    finally:
        if not done:
            keeping.abandon()


def _kept(response: Response) -> Replay:
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    return Replay(response.status_code, headers, response.get_data())


def _replay(stored: Replay) -> Response:
    response = Response(stored.body, status=stored.status)
    response.headers.update(stored.headers)
    response.headers["Idempotent-Replayed"] = "true"
    return response
