"""When a request is tried again, and after how long."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from gradkeel.sansio.commands import Answer, Failure, Outcome, Request

FIRST_DELAY_SECONDS = 0.25
LONGEST_DELAY_SECONDS = 8.0
LONGEST_RETRY_AFTER_SECONDS = 120.0
RETRIED_BELOW_500 = frozenset({408, 429})
NOT_STARTED = frozenset({429, 503})
IN_FLIGHT = b"urn:gradkeel:problem:in_flight"


@dataclass(frozen=True)
class RetryPolicy:
    """At most ``max_retries`` tries after the first. ``random`` gives numbers in [0, 1)."""

    max_retries: int = 5
    random: Callable[[], float] = random.random

    def delay(self, retries: int, request: Request, outcome: Outcome) -> float | None:
        """Seconds until the next try after ``retries`` retries so far; None when there is to be none."""
        if retries >= self.max_retries or not worth_retrying(request, outcome):
            return None
        asked = retry_after(outcome)
        if asked is not None:
            return asked if asked <= LONGEST_RETRY_AFTER_SECONDS else None
        return self.backoff(retries)

    def backoff(self, retries: int) -> float:
        """Exponential, with jitter in the upper half, so that many clients do not come back at once."""
        full = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0**retries)
        return full * (0.5 + 0.5 * self.random())


def worth_retrying(request: Request, outcome: Outcome) -> bool:
    """Whether a further try can help, and can do no harm where the first one did its work after all."""
    if isinstance(outcome, Failure):
        return request.repeatable or not outcome.sent
    if outcome.status == 409:
        return IN_FLIGHT in outcome.content
    if not request.repeatable:
        return outcome.status in NOT_STARTED
    return outcome.status >= 500 or outcome.status in RETRIED_BELOW_500


def retry_after(outcome: Outcome) -> float | None:
    """The ``Retry-After`` of an answer in seconds (it may be given as seconds or as a date), else None."""
    text = outcome.headers.get("retry-after", "") if isinstance(outcome, Answer) else ""
    if text.strip().isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())
