"""/v1/schemas: the JSON Schemas of config and report, open to everyone."""

from typing import Any

from flask.typing import ResponseReturnValue

from gradkeel.contract import json_schema
from gradkeel.contract.report import REPORT_SCHEMA
from gradkeel_service.conditional import json_response
from gradkeel_service.openapi import Blueprint
from gradkeel_service.queries import Nothing

blueprint = Blueprint("schemas", __name__, url_prefix="/v1/schemas", description="JSON Schemas.")


@blueprint.route("/config.json", methods=["GET"])
@blueprint.arguments(Nothing, location="query")
@blueprint.open_to_all()
@blueprint.answers(200, "JsonSchema", "The schema.")
def config_schema(query: dict[str, Any]) -> ResponseReturnValue:
    """The JSON Schema of a training config."""
    return json_response(json_schema.config_schema())


@blueprint.route("/report.json", methods=["GET"])
@blueprint.arguments(Nothing, location="query")
@blueprint.open_to_all()
@blueprint.answers(200, "JsonSchema", "The schema.")
def report_schema(query: dict[str, Any]) -> ResponseReturnValue:
    """The JSON Schema of a gradient-health report."""
    return json_response(REPORT_SCHEMA)
