"""/v1/keys: make, list and revoke keys (scope admin). The secret is shown once, when the key is made."""

from datetime import UTC, datetime
from typing import Any

import marshmallow as ma
from flask import Response
from flask.typing import ResponseReturnValue

from gradkeel.contract.errors import FieldError
from gradkeel.contract.ids import KEY, is_id
from gradkeel.contract.resolve import check_name
from gradkeel.contract.schema import field_errors
from gradkeel.contract.states import Scope
from gradkeel_service.auth import project
from gradkeel_service.bodies import read_object
from gradkeel_service.conditional import json_response
from gradkeel_service.errors import Refusal, invalid
from gradkeel_service.openapi import Blueprint, component
from gradkeel_service.pagination import PageQuery
from gradkeel_service.parts import parts
from gradkeel_service.queries import Moment, Nothing

blueprint = Blueprint("keys", __name__, url_prefix="/v1/keys", description="API keys.")


class KeyRequest(ma.Schema):
    class Meta:
        unknown = ma.RAISE

    name = ma.fields.String(load_default="")
    scopes = ma.fields.List(
        ma.fields.String(validate=ma.validate.OneOf([str(scope) for scope in Scope])),
        required=True,
        validate=ma.validate.Length(min=1, max=len(Scope)),
    )
    expires_at = Moment(load_default=None, allow_none=True)


@blueprint.route("", methods=["POST"])
@blueprint.arguments(Nothing, location="query")
@blueprint.body(component("KeyRequest"))
@blueprint.answers(201, "NewKey", "The key with its secret, which is shown this once.")
def create(query: dict[str, Any]) -> ResponseReturnValue:
    """Make a key of the same project."""
    asked = _load(read_object())
    scopes = tuple(Scope(name) for name in dict.fromkeys(asked["scopes"]))
    row, token = parts().records.create_key(
        project(), scopes, name=asked["name"], expires_at=asked["expires_at"]
    )
    return json_response(row.to_json() | {"key": token}, 201)


def _load(document: dict[str, Any]) -> dict[str, Any]:
    try:
        asked: dict[str, Any] = KeyRequest().load(document)
    except ma.ValidationError as error:
        faults: list[FieldError] = list(field_errors(error.messages))
        raise Refusal("invalid", faults[0].detail, faults) from error
    if complaint := check_name(asked["name"]):
        raise invalid("/name", "name", complaint)
    if asked["expires_at"] is not None and asked["expires_at"] <= datetime.now(UTC):
        raise invalid("/expires_at", "out_of_range", "expires_at lies in the past")
    return asked


@blueprint.route("", methods=["GET"])
@blueprint.arguments(PageQuery, location="query")
@blueprint.answers(200, "KeyPage", "Every key of the project, on one page; no secrets.")
def list_all(query: dict[str, Any]) -> ResponseReturnValue:
    """List the project's keys."""
    rows = parts().records.list_keys(project())
    return json_response({"data": [row.to_json() for row in rows], "has_more": False, "next_cursor": None})


@blueprint.route("/<key_id>", methods=["DELETE"])
@blueprint.arguments(Nothing, location="query")
@blueprint.answers(204, None, "Revoked.")
def revoke(query: dict[str, Any], key_id: str) -> ResponseReturnValue:
    """Revoke a key."""
    if not is_id(key_id, KEY):
        raise Refusal("not_found", f"there is no key {key_id[:60]!r}")
    parts().records.revoke_key(project(), key_id)
    return Response(status=204)
