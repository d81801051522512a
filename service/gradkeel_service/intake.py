"""An uploaded file on its way to the object store: streamed, counted, hashed, never held in memory."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from flask import request
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from gradkeel.contract.resolve import check_name
from gradkeel_service import magic
from gradkeel_service.bodies import chunks, require_length
from gradkeel_service.errors import Refusal, invalid
from gradkeel_service.jsonl import LineCount
from gradkeel_store.objects import Objects, Writer

MULTIPART_OVERHEAD = 64 * 1024
"""Bytes allowed for boundaries and part headers beside the file itself."""

DIGESTS = ("sha-256", "sha-512")
"""The algorithms that a declared digest is checked by; others are passed over, as RFC 9530 says."""


@dataclass(frozen=True)
class Stored:
    """A file that lies in the object store. ``name`` is None where the request names none."""

    sha256: str
    size: int
    name: str | None


@dataclass(frozen=True)
class StoredLines:
    """A file of JSON lines in the object store; ``lines`` counts those that are not blank."""

    sha256: str
    size: int
    lines: int


def receive(objects: Objects, limit: int) -> Stored:
    """Store the file that the current request carries, raw or as the one file part of a form.

    Refuses 400 (digest, truncation), 408, 411, 413, 415 and 422 (empty); then nothing is kept.
    """
    require_length()
    expected = _declared_digests()
    if request.mimetype == "multipart/form-data":
        name, pieces = _form_file(limit)
    else:
        name, pieces = None, chunks(limit)
    with objects.writer() as writer:
        _copy(_checked_table(pieces), writer, expected, limit)
        writer.commit()
    return Stored(writer.digest, writer.size, name)


def receive_lines(objects: Objects, limit: int, most: int) -> StoredLines:
    """Store the JSON lines that are the current request's body, ``most`` of them at most.

    Refuses as ``receive`` does, 413 for too many lines and 422 for none; then nothing is kept.
    """
    require_length()
    count = LineCount()
    with objects.writer() as writer:
        _copy(_counted(chunks(limit), count, most), writer, _declared_digests(), limit)
        if not count.lines:
            raise invalid("", "empty", "the batch has no line")
        writer.commit()
    return StoredLines(writer.digest, writer.size, count.lines)


def _counted(pieces: Iterator[bytes], count: LineCount, most: int) -> Iterator[bytes]:
    for piece in pieces:
        count.add(piece)
        if count.lines > most:
            raise Refusal("too_large", f"the batch has more than {most} lines (GRADKEEL_MAX_BATCH_LINES)")
        yield piece


def _checked_table(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces, after a look at how the file begins."""
    head = bytearray()
    checked = False
    for piece in pieces:
        if not checked:
            head += piece
            if checked := len(head) >= magic.HEAD_BYTES:
                magic.check(bytes(head[: magic.HEAD_BYTES]), whole=False)
        yield piece
    if not checked:
        magic.check(bytes(head), whole=True)


def _copy(pieces: Iterator[bytes], writer: Writer, expected: dict[str, bytes], limit: int) -> None:
    sha512 = hashlib.sha512() if "sha-512" in expected else None
    for piece in pieces:
        if sha512 is not None:
            sha512.update(piece)
        writer.write(piece)
        if writer.size > limit:
            raise Refusal("too_large", f"the file is over the limit of {limit} bytes")
    found = {"sha-256": bytes.fromhex(writer.digest)} | ({"sha-512": sha512.digest()} if sha512 else {})
    for algorithm, digest in expected.items():
        if found[algorithm] != digest:
            raise Refusal(
                "digest_mismatch", f"the {algorithm} digest of what arrived is another than declared"
            )


def _declared_digests() -> dict[str, bytes]:
    declared: dict[str, bytes] = {}
    for header in ("Repr-Digest", "Content-Digest"):
        if header == "Content-Digest" and request.mimetype == "multipart/form-data":
            continue
        declared |= digests_in(header)
    return declared


def digests_in(header: str) -> dict[str, bytes]:
    """Algorithm → digest, of a Repr-Digest or Content-Digest header (RFC 9530). 400 for a malformed one."""
    declared: dict[str, bytes] = {}
    for member in filter(None, (part.strip() for part in request.headers.get(header, "").split(","))):
        declared |= _digest_member(header, member)
    return declared


def _digest_member(header: str, member: str) -> dict[str, bytes]:
    found = re.fullmatch(r"([a-z0-9-]+)=:([A-Za-z0-9+/=]*):", member)
    if not found:
        raise Refusal("bad_request", f"{header} must look like sha-256=:<base64>:")
    if found[1] not in DIGESTS:
        return {}
    try:
        return {found[1]: base64.b64decode(found[2], validate=True)}
    except binascii.Error as error:
        raise Refusal("bad_request", f"{header} does not hold base64") from error


def _form_file(limit: int) -> tuple[str | None, Iterator[bytes]]:
    boundary = request.mimetype_params.get("boundary", "").encode()
    if not boundary:
        raise Refusal("bad_request", "multipart/form-data without a boundary")
    decoder = MultipartDecoder(boundary, max_form_memory_size=None, max_parts=16)
    events = _form_events(decoder, chunks(limit + MULTIPART_OVERHEAD))
    for event in events:
        if isinstance(event, File):
            return checked_name(event.filename), _file_bytes(events)
        if isinstance(event, Field):
            name = "without a name" if event.name is None else repr(event.name[:80])
            raise invalid("", "form_field", f"the form has a field {name}; send the one file alone")
    raise invalid("", "form_file", "the form holds no file")


def checked_name(filename: str | None) -> str | None:
    """The name that a form gives its file; 422 for one that cannot be kept, before anything is stored."""
    if filename and (complaint := check_name(filename)):
        raise invalid("/name", "name", f"the file's name: {complaint}")
    return filename or None


def _form_events(decoder: MultipartDecoder, pieces: Iterator[bytes]) -> Iterator[object]:
    try:
        while True:
            event = decoder.next_event()
            if isinstance(event, NeedData):
                decoder.receive_data(next(pieces, None))
                continue
            yield event
            if isinstance(event, Epilogue):
                # Read on to the end, so that the length of the body is checked.
                for _ in pieces:
                    pass
                return
    except ValueError as error:
        raise Refusal("bad_body", f"the form is malformed: {error}") from error


def _file_bytes(events: Iterator[object]) -> Iterator[bytes]:
    for event in events:
        if isinstance(event, Data):
            yield event.data
        elif isinstance(event, (File, Field)):
            raise invalid("", "form_field", "the form has more than one part; send the one file alone")
