"""What Celery puts around a call, read without Celery: JSON alone, and nothing in it is run."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gradkeel.contract import strict_json
from gradkeel.contract.errors import StrictJSONError

JSON_TYPE = "application/json"
TEXT_ENCODINGS = ("", "utf-8", "utf8", "us-ascii", "ascii")


class Unreadable(Exception):
    """A message that is no call of a task in JSON. Its text says why and holds nothing of the message."""


@dataclass(frozen=True)
class Delivery:
    """One message in hand. ``tag`` is what its source settles it by."""

    tag: Any
    body: bytes = field(repr=False, default=b"")
    content_type: str = ""
    content_encoding: str = ""
    headers: Mapping[str, Any] = field(repr=False, default_factory=dict)
    fault: str = ""
    """Why the message could not even be taken apart; empty where it could."""


@dataclass(frozen=True)
class Call:
    """A task by name and its arguments. ``fault`` says what is not strict JSON in them, empty: nothing."""

    task: str
    args: list[Any] = field(repr=False)
    kwargs: dict[str, Any] = field(repr=False)
    fault: str = ""


def call_of(delivery: Delivery, most_bytes: int) -> Call:
    """The call in a message of Celery's protocol 2 or 1. Raises ``Unreadable``."""
    if delivery.fault:
        raise Unreadable(delivery.fault)
    _check_form(delivery, most_bytes)
    body, fault = _parsed(delivery.body)
    if isinstance(body, dict):  # protocol 1: everything is in the body
        return _call(body.get("task"), body.get("args", []), body.get("kwargs", {}), fault)
    if isinstance(body, list) and len(body) == 3:
        return _call(delivery.headers.get("task"), body[0], body[1], fault)
    raise Unreadable("the body is not [args, kwargs, embed]")


def _check_form(delivery: Delivery, most_bytes: int) -> None:
    if delivery.content_type.partition(";")[0].strip().lower() != JSON_TYPE:
        raise Unreadable(f"the content type is {delivery.content_type[:60]!r}, not {JSON_TYPE}")
    if delivery.content_encoding.lower() not in TEXT_ENCODINGS:
        raise Unreadable(f"the content encoding is {delivery.content_encoding[:60]!r}, not utf-8")
    if delivery.headers.get("compression"):
        raise Unreadable("the body is compressed")
    if len(delivery.body) > most_bytes:
        raise Unreadable(f"the body is over the limit of {most_bytes} bytes")


def _parsed(body: bytes) -> tuple[Any, str]:
    """The body, and what is wrong with it though Python reads it: who sent it can then be told."""
    try:
        return strict_json.loads(body), ""
    except StrictJSONError as error:
        fault = error.detail
    try:
        return json.loads(body), fault
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the body is not JSON: {fault[:200]}") from error


def _call(task: Any, args: Any, kwargs: Any, fault: str) -> Call:
    if not isinstance(task, str):
        raise Unreadable("the message names no task")
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise Unreadable("the arguments are not a list and an object")
    return Call(task, args, kwargs, fault)


def delivery_of_item(item: bytes, tag: Any, most_bytes: int) -> Delivery:
    """A message as Celery's Redis transport writes it: one JSON object around the body."""
    if len(item) > 2 * most_bytes:
        return Delivery(tag, fault=f"the message is over the limit of {most_bytes} bytes")
    try:
        envelope = json.loads(item)
        properties = envelope.get("properties") or {}
        return Delivery(
            tag,
            _body(envelope.get("body", ""), properties.get("body_encoding")),
            str(envelope.get("content-type") or ""),
            str(envelope.get("content-encoding") or ""),
            dict(envelope.get("headers") or {}),
        )
    except (ValueError, TypeError, AttributeError, RecursionError, binascii.Error):
        return Delivery(tag, fault="the message is not the JSON object that Celery puts around a body")


def _body(body: Any, encoding: Any) -> bytes:
    if not isinstance(body, str):
        raise TypeError("the body is not text")
    if encoding == "base64":
        return base64.b64decode(body, validate=True)
    if encoding in (None, "", "utf-8"):
        return body.encode("utf-8")
    raise ValueError("an unknown encoding of the body")
