"""/openapi.json and /docs: the description and a page that shows it, with nothing from elsewhere."""

from functools import cache
from importlib import resources

from flask import Blueprint, Response, current_app
from flask.typing import ResponseReturnValue

from gradkeel_service.conditional import body_response, json_response
from gradkeel_service.errors import Refusal
from gradkeel_service.guidance import linked, with_examples

blueprint = Blueprint("docs", __name__)

PAGE_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
ASSETS = {
    "docs.js": "text/javascript",
    "swagger-ui/swagger-ui-bundle.js": "text/javascript",
    "swagger-ui/swagger-ui.css": "text/css",
    "swagger-ui/favicon-32x32.png": "image/png",
    "swagger-ui/LICENSE": "text/plain",
    "swagger-ui/NOTICE": "text/plain",
}


@blueprint.get("/openapi.json")
def openapi_document() -> ResponseReturnValue:
    api = current_app.extensions["flask-smorest"]["apis"][""]["ext_obj"]
    return json_response(with_examples(linked(api.spec.to_dict())))


@blueprint.get("/docs")
def page() -> ResponseReturnValue:
    response = body_response(_read("docs.html"), "text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    return response


@blueprint.get("/docs/assets/<path:name>")
def asset(name: str) -> ResponseReturnValue:
    if name not in ASSETS:
        raise Refusal("not_found", "there is no such file")
    response: Response = body_response(_read(name), ASSETS[name])
    response.headers["Cache-Control"] = "public, max-age=86400"
    return response


@cache
def _read(name: str) -> bytes:
    return resources.files("gradkeel_service").joinpath("static", name).read_bytes()
