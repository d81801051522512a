"""Reading what a form of a page posts."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

from flask import request

from gradkeel_service.bodies import media_type, read_all
from gradkeel_service.errors import Refusal, invalid

MAX_BYTES = 64 * 1024
MAX_FIELDS = 50


def read_form() -> list[tuple[str, str]]:
    """Names and values of the form that was posted. 415 for another kind of body, 400 where it is broken."""
    body = read_all(MAX_BYTES)
    if body and media_type() != "application/x-www-form-urlencoded":
        raise Refusal("unsupported_media_type", "a form is sent as application/x-www-form-urlencoded")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise Refusal("bad_request", "the form cannot be read") from error
    if any("\0" in value for _, value in pairs):
        raise Refusal("bad_request", "the form holds a NUL character")
    return pairs


def query_of(*names: str) -> dict[str, str]:
    """These parameters of the address, without NUL and surrounding blanks; empty where one is missing."""
    return {name: request.args.get(name, "").replace("\0", "").strip() for name in names}


def field(form: list[tuple[str, str]], name: str) -> str:
    """The first value of a field without surrounding blanks; empty where it is missing."""
    return next((value.strip() for key, value in form if key == name), "")


def days(text: str) -> datetime | None:
    """The moment so many days from now; None for nothing. 422 for what is no number of days."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 36_500):
        raise invalid("/days", "out_of_range", "a key lasts a whole number of days, 1 to 36500")
    return datetime.now(UTC) + timedelta(days=int(text))
