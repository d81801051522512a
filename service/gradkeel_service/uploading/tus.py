"""The tus 1.0.0 protocol's headers: what a request must say, and what an answer says."""

import base64
import binascii
import re
from collections.abc import Mapping
from email.utils import format_datetime

from flask import Response, request

from gradkeel_service.errors import Refusal, invalid
from gradkeel_store.records import UploadRow

VERSION = "1.0.0"
LARGEST = 10**18 - 1
"""The largest number that a header may hold."""
EXTENSIONS = "creation,creation-with-upload,expiration,termination"
OFFSET_TYPE = "application/offset+octet-stream"
DATASET_HEADER = "Gradkeel-Dataset-Id"
"""Names the data set, once an upload has become one."""


def require_version() -> None:
    """412 without ``Tus-Resumable: 1.0.0``."""
    if request.headers.get("Tus-Resumable") != VERSION:
        raise Refusal(
            "tus_version",
            f"send the header 'Tus-Resumable: {VERSION}'",
            headers={"Tus-Version": VERSION},
        )


def require_offset_type() -> None:
    """415 for bytes of an upload under another content type than tus has for them."""
    if request.mimetype != OFFSET_TYPE:
        raise Refusal("unsupported_media_type", f"send the bytes as Content-Type: {OFFSET_TYPE}")


def length(limit: int) -> int:
    """``Upload-Length``: 400 without one, 413 over ``limit``, 422 for nothing."""
    if "Upload-Defer-Length" in request.headers:
        raise Refusal("bad_request", "Upload-Defer-Length is not supported: send Upload-Length")
    found = _number("Upload-Length")
    if found > limit:
        raise Refusal("too_large", f"the file is over the limit of {limit} bytes")
    if found == 0:
        raise invalid("/Upload-Length", "empty", "the file is empty: zero bytes")
    return found


def offset() -> int:
    """``Upload-Offset``; 400 without one."""
    return _number("Upload-Offset")


def _number(header: str) -> int:
    text = request.headers.get(header)
    if text is None or not re.fullmatch(r"[0-9]{1,18}", text):
        raise Refusal("bad_request", f"{header} must be there, and be a whole number of bytes")
    return int(text)


def metadata(text: str | None) -> dict[str, str]:
    """``Upload-Metadata``: keys and their values, decoded. 400 for what is not of that form."""
    found: dict[str, str] = {}
    for pair in (text or "").split(",") if text else ():
        match = re.fullmatch(r"([!-+\--~]+)(?: ([A-Za-z0-9+/]*={0,2}))?", pair.strip(" "))
        if match is None or match[1] in found:
            raise Refusal(
                "bad_request", "Upload-Metadata must be 'key base64' by commas, each key standing once"
            )
        found[match[1]] = _decoded(match[1], match[2] or "")
    return found


def _decoded(key: str, value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Refusal("bad_request", f"Upload-Metadata: {key[:80]} is not UTF-8 text in base64") from error


def capabilities(limit: int) -> Mapping[str, str]:
    """What OPTIONS answers."""
    return {"Tus-Version": VERSION, "Tus-Extension": EXTENSIONS, "Tus-Max-Size": str(limit)}


def describe(response: Response, upload: UploadRow) -> Response:
    """Add where the upload stands to an answer about it."""
    response.headers["Upload-Offset"] = str(upload.received)
    if upload.dataset_id is None:
        response.headers["Upload-Expires"] = format_datetime(upload.expires_at, usegmt=True)
    else:
        response.headers[DATASET_HEADER] = upload.dataset_id
        response.headers["Link"] = f'</v1/datasets/{upload.dataset_id}>; rel="describedby"'
    return response
