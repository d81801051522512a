"""/v1/models: trained models, their files, and predictions."""

from typing import Any

import marshmallow as ma
from flask.typing import ResponseReturnValue

from gradkeel.contract.ids import MODEL, is_id
from gradkeel_service import predicting
from gradkeel_service.auth import project
from gradkeel_service.bodies import read_all
from gradkeel_service.conditional import json_response, negotiated, object_response
from gradkeel_service.errors import Refusal, invalid
from gradkeel_service.openapi import Blueprint
from gradkeel_service.pagination import PageQuery, page_document
from gradkeel_service.parts import parts
from gradkeel_service.queries import Nothing
from gradkeel_store.records import ModelRow

blueprint = Blueprint("models", __name__, url_prefix="/v1/models", description="Trained models.")

FORMS = {
    "bundle": ("application/zip", "model.gradkeel"),
    "safetensors": ("application/octet-stream", "weights.safetensors"),
    "onnx": ("application/octet-stream", "model.onnx"),
}
"""Form of an artefact → media type and file name."""


class ArtifactQuery(ma.Schema):
    format = ma.fields.String(
        load_default="bundle",
        validate=ma.validate.OneOf(list(FORMS)),
        metadata={"description": "bundle, safetensors or onnx."},
    )


class PredictQuery(ma.Schema):
    policy = ma.fields.String(
        load_default="impute",
        validate=ma.validate.OneOf(["strict", "impute"]),
        metadata={
            "description": "Unknown categories and missing columns: `impute` as in training, with a warning; "
            "`strict` refuses them."
        },
    )
    interval = ma.fields.Float(
        load_default=None,
        validate=ma.validate.Range(
            0, 1, min_inclusive=False, max_inclusive=False, error="give 0.8, 0.9 or 0.95, not {input}"
        ),
        metadata={
            "description": "0.8, 0.9 or 0.95: prediction intervals too, that should hold that share of the "
            "targets; models of numbers only."
        },
    )


@blueprint.route("", methods=["GET"])
@blueprint.arguments(PageQuery, location="query")
@blueprint.answers(200, "ModelPage", "A page of models.")
def list_all(query: dict[str, Any]) -> ResponseReturnValue:
    """List models."""
    return json_response(page_document(parts().records.list_models(project(), **query)))


def find(model_id: str) -> ModelRow:
    """The model of the current project; 404 for any other."""
    if not is_id(model_id, MODEL):
        raise Refusal("not_found", f"there is no model {model_id[:60]!r}")
    return parts().records.get_model(project(), model_id)


@blueprint.route("/<model_id>", methods=["GET"])
@blueprint.arguments(Nothing, location="query")
@blueprint.answers(200, "Model", "The model.")
def get(query: dict[str, Any], model_id: str) -> ResponseReturnValue:
    """Get a model."""
    return json_response(find(model_id).to_json())


def digest_of(row: ModelRow, form: str) -> str:
    """The SHA-256 in hex of one form of the model's files; 404 where it has none."""
    digest = row.digests.get(form)
    if digest is None:
        raise Refusal("not_found", f"the model has no file of the form {form!r}")
    return digest.removeprefix("sha256:")


@blueprint.route("/<model_id>/artifact", methods=["GET"])
@blueprint.arguments(ArtifactQuery, location="query")
@blueprint.also_answers(200, "application/zip", "The bundle.")
@blueprint.also_answers(200, "application/octet-stream", "The weights or the graph.")
@blueprint.also_answers(206, "application/zip", "The range of the bundle that was asked for.")
@blueprint.also_answers(206, "application/octet-stream", "The range that was asked for.")
def artifact(query: dict[str, Any], model_id: str) -> ResponseReturnValue:
    """Download a model: the bundle, or its weights or ONNX graph alone. Ranges are served."""
    media_type, filename = FORMS[query["format"]]
    return object_response(digest_of(find(model_id), query["format"]), media_type, filename)


@blueprint.route("/<model_id>", methods=["DELETE"])
@blueprint.arguments(Nothing, location="query")
@blueprint.answers(204, None, "Deleted.")
def delete(query: dict[str, Any], model_id: str) -> ResponseReturnValue:
    """Delete a model; its job stays."""
    parts().records.delete_model(project(), find(model_id).id)
    return "", 204


@blueprint.route("/<model_id>/predict", methods=["POST"])
@blueprint.arguments(PredictQuery, location="query")
@blueprint.body(predicting.BODY)
@blueprint.answers(200, "Predictions", "One prediction a row, in the order given.")
@blueprint.also_answers(200, "text/csv", "For Accept: text/csv, one line a row.")
def predict(query: dict[str, Any], model_id: str) -> ResponseReturnValue:
    """Predict rows given as JSON records or columns, CSV or Parquet."""
    row = find(model_id)
    form = negotiated(predicting.ANSWERS)
    body = read_all(parts().settings.max_body_bytes)
    if not body:
        raise invalid("", "empty", "the body holds no rows")
    model = parts().predictors.get(digest_of(row, "bundle"))
    return predicting.answer(row.id, model, body, form, query["policy"], query["interval"])
