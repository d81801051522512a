"""/v1/keys: make, show, rotate and revoke keys (scope admin). Who makes a key is shown its secret, once."""

from datetime import UTC, datetime, timedelta
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
from gradkeel_service.bodies import MAX_JSON_BYTES, parse_object, read_all, read_object
from gradkeel_service.conditional import json_response
from gradkeel_service.errors import Refusal, invalid
from gradkeel_service.openapi import Blueprint, component
from gradkeel_service.pagination import PageQuery, page_document
from gradkeel_service.parts import parts
from gradkeel_service.queries import Moment, Nothing
from gradkeel_store.records import KeyRow

blueprint = Blueprint("keys", __name__, url_prefix="/v1/keys", description="API keys.")

LONGEST_SECONDS = 100 * 366 * 86400
LONGEST_OVERLAP_SECONDS = 366 * 86400


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
    expires_in = ma.fields.Integer(
        strict=True, load_default=None, allow_none=True, validate=ma.validate.Range(1, LONGEST_SECONDS)
    )


class RotateRequest(ma.Schema):
    class Meta:
        unknown = ma.RAISE

    overlap_seconds = ma.fields.Integer(
        strict=True, load_default=0, validate=ma.validate.Range(0, LONGEST_OVERLAP_SECONDS)
    )


@blueprint.route("", methods=["POST"])
@blueprint.arguments(Nothing, location="query")
@blueprint.body(component("KeyRequest"))
@blueprint.answers(201, "NewKey", "The key with its secret, which is shown this once.")
def create(query: dict[str, Any]) -> ResponseReturnValue:
    """Make a key of the same project."""
    asked = _load(KeyRequest(), read_object())
    row, token = make_key(project(), asked["scopes"], asked["name"], _expiry(asked))
    return _with_secret(row, token)


def make_key(owner: str, scopes: list[str], name: str, expires_at: datetime | None) -> tuple[KeyRow, str]:
    """A new key of the project and its token; 422 for a name that is none or an end that lies behind."""
    if complaint := check_name(name):
        raise invalid("/name", "name", complaint)
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise invalid("/expires_at", "out_of_range", "expires_at lies in the past")
    unique = [Scope(scope) for scope in dict.fromkeys(scopes)]
    return parts().records.create_key(owner, unique, name=name, expires_at=expires_at)


def _load(schema: ma.Schema, document: dict[str, Any]) -> dict[str, Any]:
    try:
        asked: dict[str, Any] = schema.load(document)
    except ma.ValidationError as error:
        faults: list[FieldError] = list(field_errors(error.messages))
        raise Refusal("invalid", faults[0].detail, faults) from error
    return asked


def _expiry(asked: dict[str, Any]) -> datetime | None:
    if asked["expires_in"] is None:
        moment: datetime | None = asked["expires_at"]
        return moment
    if asked["expires_at"] is not None:
        raise invalid("/expires_in", "conflict", "give expires_at or expires_in, not both")
    return datetime.now(UTC) + timedelta(seconds=asked["expires_in"])


def _with_secret(row: KeyRow, token: str) -> ResponseReturnValue:
    response = json_response(row.to_json() | {"key": token}, 201)
    response.headers["Location"] = f"/v1/keys/{row.id}"
    return response


@blueprint.route("", methods=["GET"])
@blueprint.arguments(PageQuery, location="query")
@blueprint.answers(200, "KeyPage", "A page of keys; no secrets.")
def list_all(query: dict[str, Any]) -> ResponseReturnValue:
    """List the project's keys, ended ones included."""
    return json_response(page_document(parts().records.page_keys(project(), **query)))


def check_id(key_id: str) -> str:
    """The id of a key; 404 for text that can be none."""
    if not is_id(key_id, KEY):
        raise Refusal("not_found", f"there is no key {key_id[:60]!r}")
    return key_id


@blueprint.route("/<key_id>", methods=["GET"])
@blueprint.arguments(Nothing, location="query")
@blueprint.answers(200, "Key", "The key, without its secret.")
def get(query: dict[str, Any], key_id: str) -> ResponseReturnValue:
    """Get a key."""
    return json_response(parts().records.get_key(project(), check_id(key_id)).to_json())


@blueprint.route("/<key_id>/rotate", methods=["POST"])
@blueprint.arguments(Nothing, location="query")
@blueprint.body(component("RotateRequest"), required=False)
@blueprint.answers(201, "NewKey", "The new key with its secret, which is shown this once.")
def rotate(query: dict[str, Any], key_id: str) -> ResponseReturnValue:
    """Replace a key by a new one of the same name, scopes and lifetime; the old one ends after an overlap."""
    parts().records.get_key(project(), check_id(key_id))
    body = read_all(MAX_JSON_BYTES)
    asked = _load(RotateRequest(), parse_object(body) if body else {})
    overlap = timedelta(seconds=asked["overlap_seconds"])
    return _with_secret(*parts().records.rotate_key(project(), key_id, overlap))


@blueprint.route("/<key_id>", methods=["DELETE"])
@blueprint.arguments(Nothing, location="query")
@blueprint.answers(204, None, "Revoked.")
def revoke(query: dict[str, Any], key_id: str) -> ResponseReturnValue:
    """Revoke a key. 409 for the last one with the scope admin: make or rotate one first."""
    parts().records.revoke_key(project(), check_id(key_id))
    return Response(status=204)
