"""/v1/jobs: submit, watch, cancel, retry."""

import re
from typing import Any

import marshmallow as ma
from flask import Response, request
from flask.typing import ResponseReturnValue

from gradkeel.contract.ids import JOB, is_id
from gradkeel.contract.resolve import to_json
from gradkeel.contract.states import TERMINAL, JobKind, JobState
from gradkeel_service import sse
from gradkeel_service.auth import project
from gradkeel_service.bodies import parse_object, read_all
from gradkeel_service.conditional import json_response, negotiated
from gradkeel_service.errors import Refusal, invalid
from gradkeel_service.idempotency import Keeping, asked_key, body_digest, once
from gradkeel_service.long_polls import answer_when_changed
from gradkeel_service.openapi import Blueprint, component
from gradkeel_service.pagination import PageQuery, page_document
from gradkeel_service.parts import parts
from gradkeel_service.queries import Flag, Moment, Nothing, Priority, WaitQuery, WholeNumber, WithoutNul
from gradkeel_store import event_ids
from gradkeel_store.queue import ring_train
from gradkeel_store.records import JobFilter, JobRow

blueprint = Blueprint("jobs", __name__, url_prefix="/v1/jobs", description="Training jobs.")


class CreateQuery(ma.Schema):
    validate_only = Flag(
        load_default=False, metadata={"description": "Only check: answers 200 with the resolved config."}
    )
    priority = Priority(load_default=0)


class JobsQuery(PageQuery):
    state = ma.fields.String(
        load_default=None,
        validate=ma.validate.OneOf([str(state) for state in JobState]),
        metadata={"description": "Only jobs in this state."},
    )
    label = WithoutNul(
        load_default=None, metadata={"description": "Only jobs with this label: `key=value`, or `key` alone."}
    )
    dataset_id = WithoutNul(load_default=None, metadata={"description": "Only jobs on this data set."})
    batch_id = WithoutNul(load_default=None, metadata={"description": "Only jobs of this batch."})
    created_after = Moment(load_default=None, metadata={"description": "Only jobs made after this moment."})
    created_before = Moment(load_default=None, metadata={"description": "Only jobs made before this moment."})


class EventsQuery(ma.Schema):
    after = ma.fields.String(
        load_default=None,
        validate=ma.validate.Regexp(r"\A[0-9]{1,16}\Z", error="must be the id of an event"),
        metadata={"description": "Only events after the one with this id; like Last-Event-ID."},
    )
    limit = WholeNumber(
        1, 1000, load_default=200, metadata={"description": "Events of a JSON page at most, 1 to 1000."}
    )


# ------------------------------------------------------------------------------------------- submitting


@blueprint.route("", methods=["POST"])
@blueprint.arguments(CreateQuery, location="query")
@blueprint.body(component("TrainConfig"))
@blueprint.answers(202, "Job", "The job, queued.")
@blueprint.also_answers_with(200, "TrainConfig", "With `validate_only=true`: the resolved config.")
def create(query: dict[str, Any]) -> ResponseReturnValue:
    """Submit a training job; with `validate_only=true` only check and resolve its config."""
    return submit(query, JobKind.TRAIN)


def submit(query: dict[str, Any], kind: JobKind) -> ResponseReturnValue:
    """Make a job of this kind of the request's body, or only check it."""
    body = read_all(parts().settings.max_body_bytes)
    submitted = parse_object(body)
    if query["validate_only"]:
        return json_response(to_json(parts().admission.check(project(), submitted, kind).config))
    return once(body_digest(body), lambda keeping: _create(submitted, kind, query["priority"], keeping))


def _create(submitted: dict[str, Any], kind: JobKind, priority: int, keeping: Keeping) -> Response:
    admission = parts().admission
    admitted = admission.check(project(), submitted, kind)
    admission.check_quota(project())
    row = parts().records.create_job(
        project(),
        admitted.dataset.id,
        admitted.submitted,
        to_json(admitted.config),
        kind=kind,
        labels=dict(admitted.config.labels),
        priority=priority,
        idempotency_key=asked_key(),
        answering=keeping.along_with(_accepted),
    )
    ring_train(parts().celery, row.id)
    return _accepted(row)


def _accepted(row: JobRow) -> Response:
    response = json_response(row.to_json(), 202)
    response.headers["Location"] = f"/v1/jobs/{row.id}"
    response.headers["Retry-After"] = "1"
    return response


# ---------------------------------------------------------------------------------------------- reading


@blueprint.route("", methods=["GET"])
@blueprint.arguments(JobsQuery, location="query")
@blueprint.answers(200, "JobPage", "A page of jobs.")
def list_all(query: dict[str, Any]) -> ResponseReturnValue:
    """List jobs, by state, label, data set, batch and time of creation."""
    place = {name: query.pop(name) for name in ("limit", "after", "order")}
    filters = JobFilter(**(query | {"label": label_of(query["label"])}))
    return json_response(page_document(parts().records.list_jobs(project(), filters, **place)))


def label_of(text: str | None) -> tuple[str, str | None] | None:
    """A label to look for, as ``key=value`` or ``key`` alone; 422 for a value without a key."""
    if text is None:
        return None
    key, equals, value = text.partition("=")
    if not key:
        raise invalid("/label", "label", "label must be key=value, or a key alone")
    return key, value if equals else None


def find(job_id: str) -> JobRow:
    """The job of the current project; 404 for any other."""
    if not is_id(job_id, JOB):
        raise Refusal("not_found", f"there is no job {job_id[:60]!r}")
    return parts().records.get_job(project(), job_id)


def ended(job_id: str) -> JobRow:
    """The job, which has ended; 409 before that."""
    row = find(job_id)
    if row.state not in TERMINAL:
        raise Refusal("not_ended", f"the job is {row.state}; this is there once it has ended")
    return row


@blueprint.route("/<job_id>", methods=["GET"])
@blueprint.arguments(WaitQuery, location="query")
@blueprint.answers(200, "Job", "The job.")
def get(query: dict[str, Any], job_id: str) -> ResponseReturnValue:
    """Get a job; with `wait`, once its state has changed or after so many seconds."""
    return answer_when_changed(lambda: find(job_id), lambda row: row.state not in TERMINAL, query["wait"])


@blueprint.route("/<job_id>/events", methods=["GET"])
@blueprint.arguments(EventsQuery, location="query")
@blueprint.answers(200, "EventPage", "For Accept: application/json, a page of events.")
@blueprint.also_answers(200, "text/event-stream", "Server-sent events, with replay after Last-Event-ID.")
@blueprint.may_be_empty("A stream was asked for after its last event: ask no more.")
def events(query: dict[str, Any], job_id: str) -> ResponseReturnValue:
    """What happens in a job: a live stream, or pages of JSON."""
    row = find(job_id)
    after = last_event_id(query["after"])
    if negotiated(["text/event-stream", "application/json"]) == "application/json":
        return json_response(sse.page(row.id, after, query["limit"]))
    if row.state in TERMINAL and after >= event_ids.ended(row.fence):
        return Response(status=204)  # what tells a browser's EventSource to stop asking
    return sse.stream(row.id, after)


def last_event_id(asked: str | None) -> int:
    text = request.headers.get("Last-Event-ID", asked)
    if not text:
        return 0
    if not re.fullmatch(r"[0-9]{1,16}", text):
        raise invalid("", "last_event_id", "Last-Event-ID must be the id of an event")
    return int(text)


# --------------------------------------------------------------------------------------------- steering


@blueprint.route("/<job_id>/cancel", methods=["POST"])
@blueprint.arguments(Nothing, location="query")
@blueprint.answers(202, "Job", "The job, cancelled or asked to stop.")
def cancel(query: dict[str, Any], job_id: str) -> ResponseReturnValue:
    """Cancel a job: a queued one at once, a running one within seconds. 409 once it ended otherwise."""
    body = read_all(parts().settings.max_body_bytes)
    find(job_id)
    return once(body_digest(body), lambda keeping: _cancel(job_id))


def _cancel(job_id: str) -> Response:
    row = parts().records.request_cancel(project(), job_id)
    response = json_response(row.to_json(), 202)
    response.headers["Retry-After"] = "1"
    return response


@blueprint.route("/<job_id>/retry", methods=["POST"])
@blueprint.arguments(Nothing, location="query")
@blueprint.answers(202, "Job", "A new job with `retry_of`.")
def retry(query: dict[str, Any], job_id: str) -> ResponseReturnValue:
    """Run an ended job again, as a new job."""
    body = read_all(parts().settings.max_body_bytes)
    find(job_id)
    return once(body_digest(body), lambda keeping: _retry(job_id, keeping))


def _retry(job_id: str, keeping: Keeping) -> Response:
    parts().admission.check_quota(project())
    row = parts().records.retry_job(
        project(), job_id, idempotency_key=asked_key(), answering=keeping.along_with(_accepted)
    )
    ring_train(parts().celery, row.id)
    return _accepted(row)
