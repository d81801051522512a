"""/v1/batches: many configs in one file of JSON lines; what became of each line, as JSON lines."""

import time
from collections.abc import Iterator
from typing import Any

import marshmallow as ma
from flask import Response, request
from flask.typing import ResponseReturnValue

from gradkeel.contract.ids import BATCH, is_id
from gradkeel.contract.states import BatchState
from gradkeel_service import intake
from gradkeel_service.auth import project
from gradkeel_service.bodies import media_type, read_all
from gradkeel_service.conditional import json_response, negotiated
from gradkeel_service.errors import Refusal
from gradkeel_service.idempotency import Keeping, asked_key, body_digest, once
from gradkeel_service.long_polls import answer_when_changed
from gradkeel_service.openapi import Blueprint
from gradkeel_service.pagination import PageQuery, page_document
from gradkeel_service.parts import parts
from gradkeel_service.queries import Nothing, Priority, WaitQuery
from gradkeel_store.json_text import to_text
from gradkeel_store.records import BatchRow, Records

blueprint = Blueprint("batches", __name__, url_prefix="/v1/batches", description="Many jobs at once.")

JSON_LINES = ("application/jsonl", "application/x-ndjson", "application/ndjson")
DEFAULT_PRIORITY = -10
"""Below that of single jobs: somebody may be waiting for those."""

CANCEL_SECONDS = 2.0
"""How long a request to cancel ends jobs itself; the reader of batches ends those that are left."""

RESULTS_PAGE = 500


class SubmitQuery(ma.Schema):
    priority = Priority(load_default=DEFAULT_PRIORITY)


@blueprint.route("", methods=["POST"])
@blueprint.arguments(SubmitQuery, location="query")
@blueprint.body({kind: {"schema": {"$ref": "#/components/schemas/BatchLines"}} for kind in JSON_LINES})
@blueprint.answers(202, "Batch", "The batch, which is being read now.")
def create(query: dict[str, Any]) -> ResponseReturnValue:
    """Submit a batch: a line `{"custom_id": …, "config": {…}}` for each job. Bad lines are told singly."""
    asked_key()  # refused before a byte is stored
    if media_type() not in JSON_LINES:
        raise Refusal("unsupported_media_type", f"send the lines as Content-Type: {JSON_LINES[0]}")
    _check_open_batches()
    settings = parts().settings
    stored = intake.receive_lines(parts().objects, settings.max_batch_bytes, settings.max_batch_lines)
    return once(stored.sha256, lambda keeping: _create(stored, query["priority"], keeping))


def _check_open_batches() -> None:
    most = parts().settings.max_open_batches
    if parts().records.open_batches(project()) >= most:
        raise Refusal(
            "quota", f"{most} batches of this project are waiting to be read (GRADKEEL_MAX_OPEN_BATCHES)"
        )


def _create(stored: intake.StoredLines, priority: int, keeping: Keeping) -> Response:
    row = parts().records.create_batch(
        project(),
        stored.sha256,
        stored.size,
        stored.lines,
        priority=priority,
        idempotency_key=asked_key(),
        answering=keeping.along_with(_accepted),
    )
    return _accepted(row)


def _accepted(row: BatchRow) -> Response:
    response = json_response(row.to_json(), 202)
    response.headers["Location"] = f"/v1/batches/{row.id}"
    response.headers["Retry-After"] = "1"
    return response


@blueprint.route("", methods=["GET"])
@blueprint.arguments(PageQuery, location="query")
@blueprint.answers(200, "BatchPage", "A page of batches.")
def list_all(query: dict[str, Any]) -> ResponseReturnValue:
    """List batches."""
    return json_response(page_document(parts().records.list_batches(project(), **query)))


def find(batch_id: str) -> BatchRow:
    """The batch of the current project; 404 for any other."""
    if not is_id(batch_id, BATCH):
        raise Refusal("not_found", f"there is no batch {batch_id[:60]!r}")
    return parts().records.get_batch(project(), batch_id)


@blueprint.route("/<batch_id>", methods=["GET"])
@blueprint.arguments(WaitQuery, location="query")
@blueprint.answers(200, "Batch", "The batch.")
def get(query: dict[str, Any], batch_id: str) -> ResponseReturnValue:
    """Get a batch; with `wait`, once its state has changed or after so many seconds."""
    return answer_when_changed(
        lambda: find(batch_id), lambda row: row.state != BatchState.ENDED, query["wait"]
    )


@blueprint.route("/<batch_id>/results", methods=["GET"])
@blueprint.arguments(Nothing, location="query")
@blueprint.also_answers(200, JSON_LINES[0], "A line for each line that was read, in the file's order.")
def results(query: dict[str, Any], batch_id: str) -> ResponseReturnValue:
    """What became of each line, as JSON lines; while the batch runs, how each stands now."""
    row = find(batch_id)
    response = Response(content_type=negotiated(JSON_LINES))
    if row.ended_at is not None:  # nothing changes any more
        response.set_etag(f"{row.id}-{row.ended_at.timestamp():.6f}")
        response.headers["Cache-Control"] = "private, no-cache"
        if request.if_none_match.contains(response.get_etag()[0] or ""):
            response.status_code = 304
            return response
    if request.method != "HEAD":
        response.response = _result_lines(parts().records, row.id)
    return response


def _result_lines(records: Records, batch_id: str) -> Iterator[bytes]:
    """Page after page, so that no transaction stays open while the reader of the answer takes his time."""
    after = 0
    while lines := records.batch_results(batch_id, after, RESULTS_PAGE):
        yield "".join(f"{to_text(line.to_json())}\n" for line in lines).encode()
        after = lines[-1].line


@blueprint.route("/<batch_id>/cancel", methods=["POST"])
@blueprint.arguments(Nothing, location="query")
@blueprint.answers(202, "Batch", "The batch, which is to stop.")
def cancel(query: dict[str, Any], batch_id: str) -> ResponseReturnValue:
    """Cancel a batch: what is queued at once, what runs within seconds. 409 once it ended otherwise."""
    body = read_all(parts().settings.max_body_bytes)
    find(batch_id)
    return once(body_digest(body), lambda keeping: _cancel(batch_id))


def _cancel(batch_id: str) -> Response:
    records = parts().records
    records.request_cancel_batch(project(), batch_id)
    until = time.monotonic() + CANCEL_SECONDS
    while records.cancel_batch_jobs(batch_id) and time.monotonic() < until:
        pass
    response = json_response(find(batch_id).to_json(), 202)
    response.headers["Retry-After"] = "1"
    return response
