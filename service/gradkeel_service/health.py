"""/healthz, /readyz and /metrics: for probes and scrapers, outside /v1 and without a key."""

import ipaddress
from typing import Any

import redis
from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from prometheus_client import CONTENT_TYPE_LATEST
from redis.backoff import NoBackoff
from redis.retry import Retry

from gradkeel.contract.states import Scope
from gradkeel_service.auth import require_key, require_scope
from gradkeel_service.conditional import json_response
from gradkeel_service.parts import parts
from gradkeel_store.errors import StoreError

blueprint = Blueprint("health", __name__)

BROKER_SECONDS = 0.25

FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")
"""Headers by which proxies say for whom they ask."""


@blueprint.get("/healthz")
def healthz() -> ResponseReturnValue:
    """The process answers. Says nothing about what it depends on."""
    return json_response({"status": "ok"})


@blueprint.get("/readyz")
def readyz() -> ResponseReturnValue:
    """200 when jobs would be accepted and run; else 503 with the names of what is missing.

    Broker and consumer are shown but not required: without them jobs are found by polling, and what waits on
    the queue or in a batch waits longer.
    """
    checks = _checks()
    missing = [name for name in ("database", "objects", "worker") if not checks[name]]
    document = {"status": "unready" if missing else "ready", "missing": missing, "checks": checks}
    response: Response = json_response(document, 503 if missing else 200)
    if missing:
        response.headers["Retry-After"] = "1"
    return response


def _checks() -> dict[str, Any]:
    try:
        workers = len(parts().admission.live_workers())
        consumers = len(parts().admission.live_consumers())
        database = True
    except StoreError:
        workers, consumers, database = 0, 0, False
    return {
        "database": database,
        "objects": _objects_answer(),
        "worker": workers > 0,
        "workers": workers,
        "consumer": consumers > 0,
        "broker": _broker_answers(),
    }


def _objects_answer() -> bool:
    try:
        parts().objects.exists("0" * 64)
    except StoreError:
        return False
    return True


def _broker_answers() -> bool | None:
    """Whether Redis or Valkey answers; None where another kind of broker is used."""
    url = parts().settings.redis_url
    if not url:
        return None
    try:
        with redis.Redis.from_url(
            url,
            socket_connect_timeout=BROKER_SECONDS,
            socket_timeout=BROKER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


@blueprint.get("/metrics")
def metrics() -> ResponseReturnValue:
    """Prometheus measures; open on loopback, elsewhere with a key of scope admin."""
    if not _from_loopback():
        require_scope(require_key(), Scope.ADMIN)
    admission = parts().admission
    jobs = parts().records.job_counts()
    text = parts().measures.expose(len(admission.live_workers()), admission.live_consumers(), jobs)
    return Response(text, content_type=CONTENT_TYPE_LATEST)


def _from_loopback() -> bool:
    """Whether the asker sits on this machine; what a proxy here hands on comes from elsewhere."""
    if any(name in request.headers for name in FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.remote_addr or "").is_loopback
    except ValueError:
        return False
