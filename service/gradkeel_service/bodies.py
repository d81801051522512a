"""Reading request bodies: bounded, whole, in time, and as strict JSON."""

from collections.abc import Iterator
from typing import Any

from flask import current_app, g, request
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.errors import NoMoreData, ParseException
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from gradkeel.contract import strict_json
from gradkeel_service.admission import checked_object
from gradkeel_service.errors import Refusal
from gradkeel_service.pace import paced
from gradkeel_service.parts import parts

CHUNK = 256 * 1024
MAX_JSON_BYTES = 4 * 1024 * 1024

SKIPPED = 64 * 1024
"""An unread body of up to so many bytes is skipped by the server, and the connection lives on."""

CLOSE = {"Connection": "close"}
"""After a body that did not arrive as announced, nothing more on the connection can be trusted."""


def require_length() -> None:
    """411 when a body was not announced, neither by Content-Length nor as chunked."""
    chunked = request.environ.get("wsgi.input_terminated") and "Transfer-Encoding" in request.headers
    if request.content_length is None and not chunked:
        raise Refusal("length_required", "send Content-Length, or Transfer-Encoding: chunked")


def chunks(limit: int) -> Iterator[bytes]:
    """The body in pieces.

    Refuses 413 over ``limit`` bytes, 408 when it stalls or drips, 400 when fewer bytes arrive than were
    declared, 415 under a Content-Encoding.
    """
    _refuse_encoding()
    declared = request.content_length
    if declared is not None and declared > limit:
        raise _too_large(limit)
    request.max_content_length = limit
    received = 0
    grace, rate = current_app.config["BODY_TIMEOUT_SECONDS"], parts().settings.min_body_rate
    with paced(request.environ["wsgi.input"], grace, rate):
        while piece := _read():
            received += len(piece)
            if received > limit:
                raise _too_large(limit)
            yield piece
    g.body_read = True
    if declared is not None and received != declared:
        raise Refusal("bad_body", f"{received} bytes arrived, Content-Length says {declared}", headers=CLOSE)


def _refuse_encoding() -> None:
    """Nothing here decodes: what was stored, hashed and measured would not be what was meant."""
    named = request.headers.get("Content-Encoding", "")
    codings = [coding.strip().lower() for coding in named.split(",")]
    if any(coding not in ("", "identity") for coding in codings):
        raise Refusal(
            "unsupported_media_type",
            f"Content-Encoding {named[:60]!r} is not decoded here; send the body as it is, without this "
            "header (a .gz or .zst file is uploaded as the content that it is)",
            headers={"Accept-Encoding": "identity"},
        )


def left_unread() -> bool:
    """Whether a body of some size was not read to its end: the next request would stand behind it."""
    announced = (request.content_length or 0) > SKIPPED or "Transfer-Encoding" in request.headers
    return announced and not g.get("body_read")


def _too_large(limit: int) -> Refusal:
    return Refusal("too_large", f"the body is over the limit of {limit} bytes")


def _read() -> bytes:
    try:
        body = request.environ["wsgi.input"]
        if isinstance(body, Body) and isinstance(body.reader, LengthReader):
            return _received(body.reader)
        return request.stream.read(CHUNK)
    except RequestEntityTooLarge as error:
        raise _too_large(request.max_content_length or 0) from error
    except TimeoutError as error:
        raise _stalled() from error
    except (ClientDisconnected, NoMoreData, ConnectionError) as error:
        # werkzeug raises ClientDisconnected for every fault of the socket; the fault itself is its context.
        if isinstance(error.__context__, TimeoutError):
            raise _stalled() from error
        raise Refusal("bad_body", "the body ended early", headers=CLOSE) from error
    except ParseException as error:
        raise Refusal("bad_body", f"the chunked body is malformed: {error}", headers=CLOSE) from error


def _stalled() -> Refusal:
    return Refusal("timeout", "the body stalled, or came too slowly", headers=CLOSE)


def _received(reader: LengthReader) -> bytes:
    """What one look at the socket gives of a body of known length; empty at its end or when it is cut.

    ``Body.read`` would copy each byte some six times on its way through buffers.
    """
    if not reader.length:
        return b""
    piece: bytes = reader.unreader.read(read_ahead=reader.length)
    if len(piece) > reader.length:  # the next request came along with the end of this one
        reader.unreader.unread(piece[reader.length :])
        piece = piece[: reader.length]
    reader.length -= len(piece)
    return piece


def read_all(limit: int) -> bytes:
    """The whole body as bytes; the same refusals as ``chunks``."""
    return b"".join(chunks(limit))


def media_type() -> str:
    """The Content-Type without parameters, in lower case; empty when there is none."""
    return request.mimetype


def parse_object(body: bytes) -> dict[str, Any]:
    """``body`` as a strict JSON object. 415 for another content type, 400 for bad JSON, 422 for no object."""
    if media_type() != "application/json":
        raise Refusal("unsupported_media_type", "send the body as Content-Type: application/json")
    return checked_object(strict_json.loads(body))


def read_object() -> dict[str, Any]:
    """The body of the current request as a strict JSON object."""
    return parse_object(read_all(MAX_JSON_BYTES))
