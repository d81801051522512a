"""Guessing keys is slow: an address that sends many wrong ones has to wait."""

import hashlib
import math
import threading
from collections import OrderedDict

from gradkeel_service.errors import Refusal
from gradkeel_store.rates import RateLimiter
from gradkeel_store.settings import Settings

KNOWN = 10_000
"""So many tokens that proved right are remembered, by their digest."""


class Attempts:
    """Counts wrong keys by address.

    While an address has to wait, only tokens that proved right before are looked at: whoever shares the
    address with a guesser (a proxy, a NAT) goes on working, and the guesser learns nothing.
    """

    def __init__(self, settings: Settings) -> None:
        self._rates = RateLimiter(settings, limit=settings.failed_key_limit)
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def check(self, address: str, token: str) -> None:
        """Refuse a token that is not known where its address has to wait. Ask before it is looked up."""
        wait = self._rates.wait(_caller(address))
        if wait and not self._is_known(token):
            raise self._refusal(wait)

    def right(self, token: str) -> None:
        """The token proved right."""
        digest = _digest(token)
        with self._lock:
            self._known[digest] = None
            self._known.move_to_end(digest)
            if len(self._known) > KNOWN:
                self._known.popitem(last=False)

    def wrong(self, address: str) -> None:
        """The token proved wrong; a refusal where that was one too many."""
        if wait := self._rates.take(_caller(address)):
            raise self._refusal(wait)

    def _is_known(self, token: str) -> bool:
        with self._lock:
            return _digest(token) in self._known

    def _refusal(self, wait: float) -> Refusal:
        return Refusal(
            "rate_limited",
            f"{self._rates.limit} wrong keys came from this address within a minute",
            headers={"Retry-After": str(math.ceil(wait))},
        )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _caller(address: str) -> str:
    return f"address:{address}"
