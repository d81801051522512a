"""/v1/uploads: resumable uploads by the tus protocol, version 1.0.0; each ends as a data set."""

from collections.abc import Iterator
from concurrent.futures import TimeoutError as StillRunning
from dataclasses import replace
from typing import Any

import marshmallow as ma
from flask import Response, request
from flask.typing import ResponseReturnValue

from gradkeel.contract.errors import FieldError
from gradkeel.contract.ids import UPLOAD, is_id
from gradkeel.contract.states import UploadState
from gradkeel_service import intake
from gradkeel_service.auth import project
from gradkeel_service.bodies import CLOSE, chunks, require_length
from gradkeel_service.conditional import json_response
from gradkeel_service.datasets import UploadQuery, check_encoding, check_storage
from gradkeel_service.errors import Refusal, invalid
from gradkeel_service.idempotency import Keeping, asked_key, body_digest, once
from gradkeel_service.long_polls import answer_when_changed
from gradkeel_service.openapi import Blueprint
from gradkeel_service.parts import parts
from gradkeel_service.queries import Nothing, PlainText, WaitQuery
from gradkeel_service.uploading import reception, tus
from gradkeel_service.uploading.assembly import drop
from gradkeel_store.records import UploadRow

blueprint = Blueprint(
    "uploads",
    __name__,
    url_prefix="/v1/uploads",
    description="Resumable uploads (tus 1.0.0): announce a file, send it in as many requests as it takes.",
)

PATIENCE_SECONDS = 20.0
"""So long the last PATCH waits for the data set; after that the upload's document tells of it."""


class UploadMetadata(UploadQuery):
    """What ``Upload-Metadata`` may hold: the query parameters of POST /v1/datasets, and what follows."""

    class Meta:
        unknown = ma.EXCLUDE

    filename = PlainText(load_default=None)
    sha256 = ma.fields.String(
        load_default=None,
        validate=ma.validate.Regexp(r"\A[0-9a-fA-F]{64}\Z", error="must be 64 hexadecimal digits"),
    )


def _header(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"in": "header", "name": name, "description": description, "required": True, "schema": schema}


TUS_RESUMABLE = _header("Tus-Resumable", "The protocol's version.", {"type": "string", "enum": [tus.VERSION]})
UPLOAD_LENGTH = _header(
    "Upload-Length", "Bytes of the whole file.", {"type": "integer", "minimum": 1, "maximum": tus.LARGEST}
)
UPLOAD_OFFSET = _header(
    "Upload-Offset",
    "Where the sent bytes belong: what HEAD answers.",
    {"type": "integer", "minimum": 0, "maximum": tus.LARGEST},
)
UPLOAD_METADATA = {
    "in": "header",
    "name": "Upload-Metadata",
    "description": "`key base64` by commas; the keys that are read: name (or filename), delimiter, decimal, "
    "encoding, header, sha256 (hex).",
    "schema": {"type": "string"},
}
BYTES = {tus.OFFSET_TYPE: {"schema": {"type": "string", "format": "binary"}}}


def _name_version(response: Response) -> Response:
    if request.method != "OPTIONS":
        response.headers["Tus-Resumable"] = tus.VERSION
    return response


blueprint.after_request(_name_version)


# ------------------------------------------------------------------------------------------- announcing


@blueprint.route("", methods=["OPTIONS"])
@blueprint.arguments(Nothing, location="query")
@blueprint.answers(204, None, "See Tus-Version, Tus-Extension and Tus-Max-Size.")
def options(query: dict[str, Any]) -> ResponseReturnValue:
    """What of tus is spoken here."""
    return Response(status=204, headers=dict(tus.capabilities(parts().settings.max_upload_bytes)))


@blueprint.route("", methods=["POST"])
@blueprint.arguments(Nothing, location="query")
@blueprint.headers(TUS_RESUMABLE, UPLOAD_LENGTH, UPLOAD_METADATA)
@blueprint.body(BYTES, required=False)
@blueprint.answers(201, "Upload", "The upload; Location says where to send its bytes.")
def create(query: dict[str, Any]) -> ResponseReturnValue:
    """Announce a file of a known length; the first bytes may come along."""
    tus.require_version()
    with_bytes = bool(request.content_length) or "Transfer-Encoding" in request.headers
    if with_bytes:
        tus.require_offset_type()
    asked_key()
    length = tus.length(parts().settings.max_upload_bytes)
    announced = _announced()
    check_storage(length)
    said = "\n".join([str(length), request.headers.get("Upload-Metadata", ""), str(announced["sha256"])])
    answer = once(body_digest(said.encode()), lambda keeping: _create(length, announced, keeping))
    upload = find(answer.headers["Location"].rpartition("/")[2])
    if with_bytes and "Idempotent-Replayed" not in answer.headers:
        upload = _append(upload, 0)
        answer = _created(upload)
    return tus.describe(answer, upload)


def _create(length: int, announced: dict[str, Any], keeping: Keeping) -> Response:
    name = announced["name"] or announced["filename"] or "upload"
    read_as = {key: announced[key] for key in UploadQuery().fields if key != "name"}
    return _created(
        parts().records.create_upload(
            project(),
            name,
            length,
            seconds=parts().settings.upload_seconds,
            metadata=request.headers.get("Upload-Metadata"),
            options={key: value for key, value in read_as.items() if value is not None},
            sha256=announced["sha256"],
            answering=keeping.along_with(_created),
        )
    )


def _created(upload: UploadRow) -> Response:
    response = json_response(upload.to_json(), 201)
    response.headers["Location"] = f"/v1/uploads/{upload.id}"
    return response


def _announced() -> dict[str, Any]:
    """What Upload-Metadata and Repr-Digest say of the file. 400, or 422 with a pointer to the key."""
    try:
        said: dict[str, Any] = UploadMetadata().load(tus.metadata(request.headers.get("Upload-Metadata")))
    except ma.ValidationError as error:
        faults = [
            FieldError(f"/Upload-Metadata/{key}", "metadata", f"{key}: {texts[0]}")
            for key, texts in error.messages_dict.items()
        ]
        raise Refusal("invalid", faults[0].detail, faults) from error
    check_encoding(said["encoding"])
    digest = intake.digests_in("Repr-Digest").get("sha-256")
    declared = {named.lower() for named in (said["sha256"], digest and digest.hex()) if named}
    if len(declared) > 1:
        raise invalid("/Upload-Metadata/sha256", "digest", "Repr-Digest declares another digest")
    return said | {"sha256": declared.pop() if declared else None}


# ---------------------------------------------------------------------------------------------- sending


@blueprint.route("/<upload_id>", methods=["PATCH"])
@blueprint.arguments(Nothing, location="query")
@blueprint.headers(TUS_RESUMABLE, UPLOAD_OFFSET)
@blueprint.body(BYTES)
@blueprint.answers(
    204, None, "Stored up to Upload-Offset; Gradkeel-Dataset-Id once the upload has become a data set."
)
def append(query: dict[str, Any], upload_id: str) -> ResponseReturnValue:
    """Send bytes from Upload-Offset on, to the end or as many as you like.

    What arrives before a cut is kept. With the last byte the data set is made. Every request makes a piece;
    an upload may have 10,000, and one more for each MiB of its length.
    """
    tus.require_version()
    tus.require_offset_type()
    offset = tus.offset()
    upload = find(upload_id)
    require_length()
    if upload.state is UploadState.DONE and (offset, request.content_length) == (upload.length, 0):
        return tus.describe(Response(status=204), upload)
    return tus.describe(Response(status=204), _append(upload, offset))


def _append(upload: UploadRow, offset: int) -> UploadRow:
    remaining = max(upload.length - offset, 0)
    check_storage(min(request.content_length or 1, remaining))
    held = parts().records.hold_upload(project(), upload.id, offset)
    yard = reception.Yard(parts().records, parts().objects, parts().settings.upload_seconds)
    try:
        reception.refuse_crumbs(yard, held)
        held = reception.receive(yard, held, _coming(remaining))
    except BaseException:
        parts().records.release_upload(held)
        raise
    if held.received < held.length:
        parts().records.release_upload(held)
        return held
    return _finish(held)


def _coming(limit: int) -> Iterator[bytes]:
    """The body, until the service is to stop: what came by then is kept, and the rest may come later."""
    for piece in chunks(limit):
        yield piece
        if parts().stopping.is_set():
            raise Refusal("unavailable", "the service is stopping; go on from Upload-Offset", headers=CLOSE)


def _finish(held: UploadRow) -> UploadRow:
    """Have the data set made. Where that takes long it goes on by itself, and the upload's document tells."""
    try:
        dataset = parts().assembly.start(held).result(PATIENCE_SECONDS)
    except StillRunning:
        return held
    return replace(held, dataset_id=dataset.id, sha256=dataset.sha256)


# --------------------------------------------------------------------------------------------- looking


@blueprint.route("/<upload_id>", methods=["HEAD"])
@blueprint.arguments(Nothing, location="query")
@blueprint.headers(TUS_RESUMABLE)
@blueprint.answers(200, None, "See Upload-Offset, Upload-Length, Upload-Metadata and Upload-Expires.")
def head(query: dict[str, Any], upload_id: str) -> ResponseReturnValue:
    """How many bytes are stored: where to go on."""
    tus.require_version()
    upload = _looked_after(find(upload_id))
    if upload.error is not None:
        raise Refusal("gone", "the upload was refused; its document says why")
    response = Response(headers={"Cache-Control": "no-store", "Upload-Length": str(upload.length)})
    if upload.metadata is not None:
        response.headers["Upload-Metadata"] = upload.metadata
    return tus.describe(response, upload)


@blueprint.route("/<upload_id>", methods=["GET"])
@blueprint.arguments(WaitQuery, location="query")
@blueprint.answers(200, "Upload", "The upload.")
def get(query: dict[str, Any], upload_id: str) -> ResponseReturnValue:
    """Where an upload stands; with `wait`, once its data set has been made or after so many seconds."""
    return answer_when_changed(
        lambda: _looked_after(find(upload_id)),
        lambda upload: upload.state is UploadState.ASSEMBLING,
        query["wait"],
        lambda upload: tus.describe(json_response(upload.to_json()), upload),
    )


def _looked_after(upload: UploadRow) -> UploadRow:
    """The upload; one that is whole and that nobody finishes is finished from here."""
    if upload.state is UploadState.ASSEMBLING:
        parts().assembly.start_unless_held(upload)
    return upload


@blueprint.route("/<upload_id>", methods=["DELETE"])
@blueprint.arguments(Nothing, location="query")
@blueprint.headers(TUS_RESUMABLE)
@blueprint.answers(204, None, "Deleted. A data set that it has become stays.")
def delete(query: dict[str, Any], upload_id: str) -> ResponseReturnValue:
    """Give an upload up, and drop its bytes."""
    tus.require_version()
    upload = find(upload_id)
    parts().records.delete_upload(project(), upload.id)
    drop(parts().objects.apart(upload.id))
    return Response(status=204)


def find(upload_id: str) -> UploadRow:
    """The upload of the current project; 404 for any other, 410 for one that expired."""
    if not is_id(upload_id, UPLOAD):
        raise Refusal("not_found", f"there is no upload {upload_id[:60]!r}")
    return parts().records.get_upload(project(), upload_id)
