"""/v1/datasets: uploads, their state, preview and profile."""

import codecs
import re
from typing import Any

import marshmallow as ma
from flask import Response, request
from flask.typing import ResponseReturnValue

from gradkeel.contract.states import DatasetState
from gradkeel_service import documents, intake
from gradkeel_service.auth import project
from gradkeel_service.conditional import json_response
from gradkeel_service.errors import Refusal, invalid
from gradkeel_service.idempotency import Keeping, asked_key, once
from gradkeel_service.long_polls import answer_when_changed
from gradkeel_service.openapi import Blueprint
from gradkeel_service.pagination import PageQuery, page_document
from gradkeel_service.parts import parts
from gradkeel_service.preview import read_preview
from gradkeel_service.queries import Flag, Nothing, PlainText, WaitQuery, WholeNumber
from gradkeel_store.queue import ring_ingest
from gradkeel_store.records import DatasetRow

blueprint = Blueprint("datasets", __name__, url_prefix="/v1/datasets", description="Uploaded tables.")

MAX_PREVIEW_ROWS = 1000


class UploadQuery(ma.Schema):
    name = PlainText(load_default=None, metadata={"description": "A name for people; never a path."})
    delimiter = ma.fields.String(
        load_default=None,
        validate=ma.validate.Length(equal=1),
        metadata={"description": "The one character between cells; found by looking when left out."},
    )
    decimal = ma.fields.String(
        load_default=None,
        validate=ma.validate.OneOf([".", ","]),
        metadata={"description": "The decimal mark: '.' or ','."},
    )
    encoding = ma.fields.String(
        load_default=None, metadata={"description": "The text encoding, such as utf-8 or latin-1."}
    )
    header = Flag(load_default=None, metadata={"description": "Whether the first line names the columns."})


class PreviewQuery(ma.Schema):
    rows = WholeNumber(
        1, MAX_PREVIEW_ROWS, load_default=20, metadata={"description": "How many rows, 1 to 1000."}
    )


@blueprint.route("", methods=["POST"])
@blueprint.arguments(UploadQuery, location="query")
@blueprint.answers(201, "Dataset", "The data set, which is being read now: see its state.")
@blueprint.body({kind: {"schema": {"type": "string", "format": "binary"}} for kind in documents.TABLE_TYPES})
def upload(query: dict[str, Any]) -> ResponseReturnValue:
    """Upload a table: CSV, TSV, JSON lines or Parquet, plain, gzip or zstd; raw or as the file of a form."""
    asked_key()  # refused before a byte is stored
    check_encoding(query["encoding"])
    check_storage(min(request.content_length or 1, parts().settings.max_upload_bytes))
    stored = intake.receive(parts().objects, parts().settings.max_upload_bytes)
    name = query.pop("name") or stored.name or "upload"
    options = {key: value for key, value in query.items() if value is not None}
    return once(stored.sha256, lambda keeping: _create(name, stored, options, keeping))


def check_storage(coming: int) -> None:
    """507 where so many bytes more do not fit into the project's quota."""
    most = parts().settings.max_storage_bytes
    if parts().records.stored_bytes(project()) + coming > most:
        raise Refusal(
            "storage_full", f"this does not fit into the project's quota of {most} bytes; delete data sets"
        )


def check_encoding(encoding: str | None) -> None:
    """422 for a text encoding that nobody knows."""
    if encoding is None:
        return
    try:
        codecs.lookup(encoding)
    except (LookupError, ValueError) as error:
        raise invalid(
            "/encoding", "encoding", f"{encoding[:40]!r} is not the name of a text encoding"
        ) from error


def _create(name: str, stored: intake.Stored, options: dict[str, Any], keeping: Keeping) -> Response:
    row = parts().records.create_dataset(
        project(),
        name,
        stored.sha256,
        stored.size,
        options,
        idempotency_key=asked_key(),
        answering=keeping.along_with(_created),
    )
    ring_ingest(parts().celery, row.id)
    return _created(row)


def _created(row: DatasetRow) -> Response:
    response = json_response(row.to_json(), 201)
    response.headers["Location"] = f"/v1/datasets/{row.id}"
    return response


@blueprint.route("", methods=["GET"])
@blueprint.arguments(PageQuery, location="query")
@blueprint.answers(200, "DatasetPage", "A page of data sets.")
def list_all(query: dict[str, Any]) -> ResponseReturnValue:
    """List data sets."""
    return json_response(page_document(parts().records.list_datasets(project(), **query)))


@blueprint.route("/by-digest/<sha256>", methods=["GET"])
@blueprint.arguments(Nothing, location="query")
@blueprint.answers(200, "Dataset", "A data set of this project that holds these bytes.")
def by_digest(query: dict[str, Any], sha256: str) -> ResponseReturnValue:
    """Whether a file with this SHA-256 is there (HEAD: 200 or 404), so that it need not be sent again."""
    known = re.fullmatch("[0-9a-f]{64}", sha256.lower())
    row = parts().records.find_dataset(project(), sha256.lower()) if known else None
    if row is None:
        raise Refusal("not_found", "no data set of this project holds these bytes")
    return json_response(row.to_json())


@blueprint.route("/<dataset_id>", methods=["GET"])
@blueprint.arguments(WaitQuery, location="query")
@blueprint.answers(200, "Dataset", "The data set.")
def get(query: dict[str, Any], dataset_id: str) -> ResponseReturnValue:
    """Get a data set; with `wait`, once it has been read or after so many seconds."""
    return answer_when_changed(
        lambda: find(dataset_id), lambda row: row.state == DatasetState.INGESTING, query["wait"]
    )


def find(dataset_id: str) -> DatasetRow:
    """The data set of the current project; 404 for any other."""
    return parts().admission.find_dataset(project(), dataset_id)


def _ready(dataset_id: str) -> DatasetRow:
    row = find(dataset_id)
    if row.state == DatasetState.INGESTING:
        raise Refusal("conflict", "the data set is still being read", headers={"Retry-After": "1"})
    if row.state == DatasetState.REJECTED:
        raise Refusal("dataset_rejected", "the data set was rejected; its error says why")
    return row


@blueprint.route("/<dataset_id>/profile", methods=["GET"])
@blueprint.arguments(Nothing, location="query")
@blueprint.answers(200, "Profile", "The profile.")
def profile(query: dict[str, Any], dataset_id: str) -> ResponseReturnValue:
    """Types, missing cells, quantiles, outliers, scale ratio, constant and duplicate columns."""
    return json_response(_ready(dataset_id).profile)


@blueprint.route("/<dataset_id>/preview", methods=["GET"])
@blueprint.arguments(PreviewQuery, location="query")
@blueprint.answers(200, "Preview", "The first rows.")
def preview(query: dict[str, Any], dataset_id: str) -> ResponseReturnValue:
    """The first rows of a data set as they were read."""
    row = _ready(dataset_id)
    assert row.parquet_digest is not None
    return json_response(read_preview(parts().objects, row.parquet_digest, query["rows"]))


@blueprint.route("/<dataset_id>", methods=["DELETE"])
@blueprint.arguments(Nothing, location="query")
@blueprint.answers(204, None, "Deleted.")
def delete(query: dict[str, Any], dataset_id: str) -> ResponseReturnValue:
    """Delete a data set that no unended job uses."""
    parts().records.delete_dataset(project(), find(dataset_id).id)
    return Response(status=204)
