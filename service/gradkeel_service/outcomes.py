"""What an ended job leaves behind: report, series, predictions, metrics, logs. 409 before its end."""

import importlib
import io
import json
from collections.abc import Callable
from typing import Any

from flask import Response
from flask.typing import ResponseReturnValue

from gradkeel.contract.config import target_text
from gradkeel.contract.report import empty_report, preflight_without_result
from gradkeel.contract.states import JobKind, JobState
from gradkeel_service.conditional import body_response, json_response, negotiated, object_response
from gradkeel_service.jobs import ended
from gradkeel_service.openapi import Blueprint
from gradkeel_service.parts import parts
from gradkeel_service.queries import Nothing
from gradkeel_store.errors import NotFound
from gradkeel_store.page import content_security_policy, render_markdown, render_report
from gradkeel_store.records import JobRow

blueprint = Blueprint("outcomes", __name__, url_prefix="/v1/jobs", description="What ended jobs left.")

PARQUET = "application/vnd.apache.parquet"
CSV = "text/csv; charset=utf-8"
JSON_LINES = "application/jsonl"
HTML = "text/html; charset=utf-8"
MARKDOWN = "text/markdown; charset=utf-8"
PNG = "image/png"

FORMS = ("application/json", "text/html", "text/markdown", PNG)
"""What a report comes as, the first where nobody asks."""


@blueprint.route("/<job_id>/report", methods=["GET"])
@blueprint.arguments(Nothing, location="query")
@blueprint.answers(200, "Report", "The report.")
@blueprint.also_answers(200, "text/html", "The report as one self-contained page.")
@blueprint.also_answers(200, "text/markdown", "The report as Markdown.")
@blueprint.also_answers(200, PNG, "The report as one picture: verdict, curves, layers, result.")
def report(query: dict[str, Any], job_id: str) -> ResponseReturnValue:
    """The gradient-health report of an ended job, as JSON, page, Markdown or picture: Accept chooses."""
    row = ended(job_id)
    return _SHOWN[negotiated(FORMS)](row)


def _report_json(row: JobRow) -> ResponseReturnValue:
    if row.report_digest is not None:
        return object_response(row.report_digest, "application/json")
    return json_response(read_report(row))


def report_page(row: JobRow) -> Response:
    """The report of an ended job as one self-contained page."""
    page = render_report(read_report(row), title=_title(row), job=row.to_json())
    response = body_response(page.encode(), HTML)
    response.headers["Content-Security-Policy"] = f"{content_security_policy()}; frame-ancestors 'none'"
    return response


def report_markdown(row: JobRow) -> Response:
    """The report of an ended job as Markdown."""
    words = render_markdown(read_report(row), title=_title(row), job=row.to_json())
    return body_response(words.encode(), MARKDOWN)


def report_picture(row: JobRow) -> Response:
    """The report of an ended job as a PNG."""
    # Pillow is loaded on first use only, as pyarrow is.
    picture = importlib.import_module("gradkeel_store.page.picture")
    return body_response(picture.render_picture(read_report(row), title=_title(row), job=row.to_json()), PNG)


_SHOWN: dict[str, Callable[[JobRow], ResponseReturnValue]] = {
    "application/json": _report_json,
    "text/html": report_page,
    "text/markdown": report_markdown,
    PNG: report_picture,
}


def _title(row: JobRow) -> str:
    """What the worker calls it in the bundle: data set and target. A data set may be gone by now."""
    try:
        name = parts().records.get_dataset(row.project, row.dataset_id).name
    except NotFound:
        name = row.dataset_id
    return f"{name}: {target_text(row.config.get('target'))}"


def read_report(row: JobRow) -> dict[str, Any]:
    """The stored report; for a job that ended without one, a report that says so."""
    if row.report_digest is None:
        return _report_of_no_run(row)
    document: dict[str, Any] = json.loads(b"".join(parts().objects.open(row.report_digest)))
    return document


def _report_of_no_run(row: JobRow) -> dict[str, Any]:
    if row.kind == JobKind.PREFLIGHT:
        return preflight_without_result(row.error)
    status = (row.error or {}).get("code") or str(row.state)
    told: dict[str, Any] = {"status": status, "error": row.error, "rests_on": [], "attempts": row.attempt}
    return empty_report(summary=_of_no_run(row)) | {"provenance": told}


def _of_no_run(row: JobRow) -> str:
    """What is known of a job that left no readings: one that was begun may have trained all the same."""
    cancelled = row.state == JobState.CANCELLED
    reason = str((row.error or {}).get("message") or "no reason was recorded").rstrip(".")
    ended = "The job was cancelled" if cancelled else "The job failed"
    if row.attempt == 0:
        return f"{ended} before its first step{'' if cancelled else f': {reason}'}."
    why = "" if cancelled else f": {reason}"
    return f"{ended}{why}. No readings of its training are left, so that nothing can be said of that."


@blueprint.route("/<job_id>/series", methods=["GET"])
@blueprint.arguments(Nothing, location="query")
@blueprint.also_answers(200, PARQUET, "Every step as Parquet.")
def series(query: dict[str, Any], job_id: str) -> ResponseReturnValue:
    """The readings of every step of an ended job, as Parquet."""
    row = ended(job_id)
    if row.series_digest is None:
        return body_response(_no_steps(), PARQUET)
    return object_response(row.series_digest, PARQUET, f"{row.id}-series.parquet")


def _no_steps() -> bytes:
    # pyarrow is loaded on first use only: it would cost every process 40 MB.
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    empty = arrow.table({"step": arrow.array([], arrow.int64()), "loss": arrow.array([], arrow.float64())})
    target = io.BytesIO()
    parquet.write_table(empty, target)
    return target.getvalue()


@blueprint.route("/<job_id>/predictions", methods=["GET"])
@blueprint.arguments(Nothing, location="query")
@blueprint.also_answers(200, "text/csv", "Row, actual and prediction as CSV.")
def predictions(query: dict[str, Any], job_id: str) -> ResponseReturnValue:
    """The predictions of the test part of an ended job, as CSV."""
    row = ended(job_id)
    if row.predictions_digest is None:
        return body_response(b"row,actual,prediction\n", CSV)
    return object_response(row.predictions_digest, CSV, f"{row.id}-predictions.csv")


@blueprint.route("/<job_id>/metrics", methods=["GET"])
@blueprint.arguments(Nothing, location="query")
@blueprint.answers(200, "Metrics", "The metrics beside the baselines.")
def metrics(query: dict[str, Any], job_id: str) -> ResponseReturnValue:
    """The metrics of an ended job by part, beside the baselines'; empty where nothing was measured."""
    return json_response(ended(job_id).metrics or {})


@blueprint.route("/<job_id>/logs", methods=["GET"])
@blueprint.arguments(Nothing, location="query")
@blueprint.also_answers(200, JSON_LINES, "The log, one JSON object a line.")
def logs(query: dict[str, Any], job_id: str) -> ResponseReturnValue:
    """The log of an ended job, as JSON lines."""
    row = ended(job_id)
    if row.logs_digest is None:
        return body_response(b"", JSON_LINES)
    return object_response(row.logs_digest, JSON_LINES)
