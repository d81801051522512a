"""/v1/preflights: which learning rate a config can use, and whether scaling changes it, before any training.

A preflight is a job: what is done with jobs is done with it, at /v1/jobs.
"""

from typing import Any

from flask.typing import ResponseReturnValue

from gradkeel.contract.states import JobKind
from gradkeel_service import jobs
from gradkeel_service.openapi import Blueprint, component

blueprint = Blueprint(
    "preflights", __name__, url_prefix="/v1/preflights", description="Looks before training."
)


@blueprint.route("", methods=["POST"])
@blueprint.arguments(jobs.CreateQuery, location="query")
@blueprint.body(component("TrainConfig"))
@blueprint.answers(202, "Job", "The job, queued; its report holds `preflight` and `data` alone.")
@blueprint.also_answers_with(200, "TrainConfig", "With `validate_only=true`: the resolved config.")
def create(query: dict[str, Any]) -> ResponseReturnValue:
    """Measure, on a sample and in seconds, gradient sizes and stable learning rates under each scaling."""
    return jobs.submit(query, JobKind.PREFLIGHT)
