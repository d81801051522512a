"""/v1/submissions: what became of jobs that were put on the queue."""

from typing import Any

import marshmallow as ma
from flask.typing import ResponseReturnValue

from gradkeel.contract.states import SubmissionState
from gradkeel_service.auth import project
from gradkeel_service.conditional import json_response
from gradkeel_service.errors import Refusal
from gradkeel_service.openapi import Blueprint
from gradkeel_service.pagination import PageQuery, page_document
from gradkeel_service.parts import parts
from gradkeel_service.queries import Nothing
from gradkeel_service.submission_ids import is_submission_id

blueprint = Blueprint(
    "submissions", __name__, url_prefix="/v1/submissions", description="Jobs that came by the queue."
)


class SubmissionsQuery(PageQuery):
    state = ma.fields.String(
        load_default=None,
        validate=ma.validate.OneOf([str(state) for state in SubmissionState]),
        metadata={"description": "Only submissions in this state."},
    )


@blueprint.route("", methods=["GET"])
@blueprint.arguments(SubmissionsQuery, location="query")
@blueprint.answers(200, "SubmissionPage", "A page of submissions.")
def list_all(query: dict[str, Any]) -> ResponseReturnValue:
    """List what came by the queue, by state and time."""
    return json_response(page_document(parts().records.list_submissions(project(), **query)))


@blueprint.route("/<path:submission_id>", methods=["GET"])
@blueprint.arguments(Nothing, location="query")
@blueprint.answers(200, "Submission", "What became of it.")
def get(query: dict[str, Any], submission_id: str) -> ResponseReturnValue:
    """Get what became of a submission: its job, or the problem that it was rejected with."""
    if not is_submission_id(submission_id):
        raise Refusal("not_found", f"there is no submission {submission_id[:60]!r}")
    return json_response(parts().records.get_submission(project(), submission_id).to_json())
