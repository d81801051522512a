"""/v1/usage: what the project uses, beside what it may use (scope admin)."""

from typing import Any

from flask.typing import ResponseReturnValue

from gradkeel_service.auth import project
from gradkeel_service.conditional import json_response
from gradkeel_service.openapi import Blueprint
from gradkeel_service.parts import parts
from gradkeel_service.queries import Nothing

blueprint = Blueprint("usage", __name__, url_prefix="/v1/usage", description="Usage and quotas.")

LIMITS = {
    "body_bytes": "max_body_bytes",
    "upload_bytes": "max_upload_bytes",
    "rows": "max_rows",
    "columns": "max_columns",
    "parameters": "max_parameters",
    "job_seconds": "job_max_seconds",
    "requests_per_minute": "rate_limit",
}
"""Limits of one request, data set, job or key → the setting that holds each."""


@blueprint.route("", methods=["GET"])
@blueprint.arguments(Nothing, location="query")
@blueprint.answers(200, "Usage", "Counts, quotas with what is used of them, and limits. No limit is null.")
def get(query: dict[str, Any]) -> ResponseReturnValue:
    """What the project uses of what it may use."""
    return json_response(usage_of(project()))


def usage_of(owner: str) -> dict[str, Any]:
    """The document of ``GET /v1/usage``."""
    records, settings = parts().records, parts().settings
    jobs = records.job_counts(owner)
    return {
        "project": records.get_project(owner).to_json(),
        "jobs": jobs,
        "datasets": records.dataset_counts(owner),
        "models": records.model_count(owner),
        "training_seconds": round(records.training_seconds(owner), 3),
        "quotas": {
            "queued_jobs": _quota(jobs["queued"], settings.max_queued_jobs),
            "storage_bytes": _quota(records.stored_bytes(owner), settings.max_storage_bytes),
            "training_seconds_of_day": _quota(
                round(parts().admission.seconds_of_day(owner), 3), settings.max_training_seconds
            ),
            "streams": _quota(parts().seats.taken(owner), settings.max_streams),
        },
        "limits": {name: getattr(settings, setting) or None for name, setting in LIMITS.items()},
    }


def _quota(used: float, limit: int) -> dict[str, Any]:
    return {"used": used, "limit": limit or None}
