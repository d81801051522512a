"""Answers that can be revalidated (ETag, 304) or fetched in parts (Range, 206, 416)."""

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from flask import Response, request

from gradkeel_service.errors import Refusal
from gradkeel_service.parts import parts

JSON = "application/json"


def negotiated(forms: Sequence[str]) -> str:
    """The media type of ``forms`` that Accept prefers; the first without Accept. 406 where none will do."""
    if "Accept" not in request.headers:
        return forms[0]
    best = request.accept_mimetypes.best_match(forms)
    if best is None:
        raise Refusal("not_acceptable", f"this comes as {' or '.join(forms)}")
    return best


def json_response(document: Any, status: int = 200) -> Response:
    """``document`` as JSON; a GET carries an ETag and is answered 304 where the client has it already."""
    body = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return body_response(body, JSON, status)


def body_response(body: bytes, media_type: str, status: int = 200) -> Response:
    response = Response(body, status=status, content_type=media_type)
    if status == 200 and request.method in ("GET", "HEAD"):
        response.set_etag(hashlib.sha256(body).hexdigest()[:32])
        response.headers["Cache-Control"] = "private, no-cache"
        response.make_conditional(request.environ)
    return response


def repr_digest(sha256_hex: str) -> str:
    """The digest as the value of a Repr-Digest field (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256_hex)).decode()}:"


def object_response(digest: str, media_type: str, filename: str | None = None) -> Response:
    """The object ``digest`` (SHA-256 in hex), whole or the one range that is asked for."""
    size = parts().objects.size(digest)
    etag = f'"{digest}"'
    headers = {
        "ETag": etag,
        "Repr-Digest": repr_digest(digest),
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
    }
    if filename is not None:
        headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    if request.if_none_match.contains_weak(digest):
        return Response(status=304, headers=headers)
    span = _asked_range(size, etag)
    if span is None:
        headers["Content-Length"] = str(size)
        return _stream(parts().objects.open(digest), 200, media_type, headers)
    start, end = span
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    return _stream(parts().objects.open(digest, start, end), 206, media_type, headers)


def _stream(body: Iterable[bytes], status: int, media_type: str, headers: dict[str, str]) -> Response:
    response = Response(status=status, content_type=media_type)
    if request.method != "HEAD":
        # The first piece is read now, so that a missing or damaged object is answered with a problem.
        pieces = iter(body)
        response.response = itertools.chain([next(pieces, b"")], pieces)
    response.headers.update(headers)
    return response


def _asked_range(size: int, etag: str) -> tuple[int, int] | None:
    """(start, end exclusive) of the range asked for; None for the whole."""
    text = request.headers.get("Range")
    if_range = request.headers.get("If-Range")
    if text is None or request.method != "GET" or (if_range is not None and if_range != etag):
        return None
    found = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", text.replace(" ", ""), re.IGNORECASE)
    span = _span(found[1], found[2], size) if found else None
    if span is None:
        raise Refusal(
            "range_not_satisfiable",
            f"the object has {size} bytes; ask for one range 'bytes=first-last' within",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return span


def _span(first: str, last: str, size: int) -> tuple[int, int] | None:
    if not first and not last:
        return None
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    return (start, end) if start < end else None
