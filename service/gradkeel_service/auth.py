"""Who may do what: bearer keys, their rates and scopes, and the project that confines every query."""

import math

from flask import Flask, g, request

from gradkeel.contract.states import Scope
from gradkeel_service.errors import Refusal
from gradkeel_service.parts import parts
from gradkeel_store.records import KeyRow

SCOPE_OF_METHOD = {
    "GET": Scope.READ,
    "HEAD": Scope.READ,
    "OPTIONS": Scope.READ,
    "POST": Scope.SUBMIT,
    "DELETE": Scope.ADMIN,
}

SCOPE_OF_ENDPOINT = {
    "models.predict": Scope.READ,
    "uploads.options": Scope.SUBMIT,
    "uploads.head": Scope.SUBMIT,
    "uploads.get": Scope.SUBMIT,
    "uploads.append": Scope.SUBMIT,
    "uploads.delete": Scope.SUBMIT,
    "keys.create": Scope.ADMIN,
    "keys.list_all": Scope.ADMIN,
    "keys.get": Scope.ADMIN,
    "keys.rotate": Scope.ADMIN,
    "usage.get": Scope.ADMIN,
}
"""Where the scope is not the one that the method stands for."""

OPEN = frozenset({"schemas.config_schema", "schemas.report_schema"})
"""Endpoints under /v1 that need no key."""


def _authenticate() -> None:
    if not request.path.startswith("/v1/") or request.endpoint in OPEN:
        return
    g.key = require_key()
    limit_rate(g.key)
    if request.url_rule is not None:
        require_scope(g.key, needed_scope(request.endpoint or "", request.method))


def limit_rate(key: KeyRow) -> None:
    """Count a request of the key; 429 past its rate."""
    rates = parts().rates
    if seconds := rates.take(key.id):
        raise Refusal(
            "rate_limited",
            f"a key may send {rates.limit} requests a minute",
            headers={"Retry-After": str(math.ceil(seconds))},
        )


def needed_scope(endpoint: str, method: str) -> Scope:
    return SCOPE_OF_ENDPOINT.get(endpoint) or SCOPE_OF_METHOD.get(method, Scope.ADMIN)


def require_key() -> KeyRow:
    """The key of the current request; 401 without a valid one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Refusal("unauthorized", "send the header 'Authorization: Bearer <key>'")
    return key_of(token.strip())


def key_of(token: str) -> KeyRow:
    """The key that the token proves; 401 for a wrong one, 429 for too many wrong ones."""
    held, address = parts(), request.remote_addr or ""
    held.attempts.check(address, token)
    key = held.records.authenticate(token)
    if key is None:
        held.attempts.wrong(address)
        raise Refusal("unauthorized", "the key is unknown, expired or revoked")
    held.attempts.right(token)
    held.uses.note(key)
    return key


def require_scope(key: KeyRow, scope: Scope) -> None:
    if scope not in key.scopes:
        raise Refusal("forbidden", f"this needs a key with the scope '{scope}'")


def project() -> str:
    """The project of the current request's key: the predicate of every query."""
    key: KeyRow = g.key
    return key.project


def register(app: Flask) -> None:
    app.before_request(_authenticate)
