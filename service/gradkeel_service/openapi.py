"""The API's description: flask-smorest with problem documents, a key scheme and typed decorators."""

import http
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import flask_smorest
import marshmallow as ma
from flask import Flask
from flask.typing import ResponseReturnValue

from gradkeel.contract.json_schema import config_components
from gradkeel.contract.problems import MEDIA_TYPE
from gradkeel_service import documents
from gradkeel_service.queries import StrictParser

View = TypeVar("View", bound=Callable[..., ResponseReturnValue])

VERSION = "0.1.0"
JSON = "application/json"


class Api(flask_smorest.Api):  # type: ignore[misc]
    """Describes every error as a problem document; errors themselves are answered by ``problems``."""

    def _register_error_handlers(self) -> None:
        """Left to ``problems.register``, which answers errors of every kind and route."""

    def _register_responses(self) -> None:
        for status in http.HTTPStatus:
            self.spec.components.response(status.name, _problem(status.phrase), lazy=True)
        self.spec.components.response("DEFAULT_ERROR", _problem("A problem document."), lazy=True)


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


class Blueprint(flask_smorest.Blueprint):  # type: ignore[misc]
    """flask-smorest's blueprint with this API's parser and decorators that keep the view's type."""

    ARGUMENTS_PARSER = StrictParser()

    def route(self, rule: str, *, methods: Sequence[str]) -> Callable[[View], View]:
        """Serve ``rule``; HEAD comes with GET."""
        decorate: Callable[[View], View] = super().route(rule, methods=list(methods))
        return decorate

    def arguments(self, schema: type[ma.Schema], *, location: str) -> Callable[[View], View]:
        decorate: Callable[[View], View] = super().arguments(schema, location=location)
        return decorate

    def answers(self, status: int, component: str | None, description: str) -> Callable[[View], View]:
        """Document the good answer. ``component`` names one of ``documents.COMPONENTS``; None: no body."""
        schema = None if component is None else {"$ref": f"#/components/schemas/{component}"}
        decorate: Callable[[View], View] = self.response(
            status, schema, description=description, content_type=JSON
        )
        return decorate

    def also_answers(self, status: int, media_type: str, description: str) -> Callable[[View], View]:
        """Document an answer, or another form of one, whose body is bytes or text."""
        # The items of a stream have forms of their own; other bodies are bytes or text.
        schema: dict[str, Any] = {} if media_type == "text/event-stream" else {"type": "string"}
        decorate: Callable[[View], View] = self.alt_response(
            status, schema=schema, content_type=media_type, description=description
        )
        return decorate

    def also_answers_with(self, status: int, component: str, description: str) -> Callable[[View], View]:
        """Document another good answer whose body is JSON."""
        schema = {"$ref": f"#/components/schemas/{component}"}
        decorate: Callable[[View], View] = self.alt_response(
            status, schema=schema, content_type=JSON, description=description
        )
        return decorate

    def may_be_empty(self, description: str) -> Callable[[View], View]:
        """Document an answer 204, beside others."""
        decorate: Callable[[View], View] = self.alt_response(204, description=description)
        return decorate

    def open_to_all(self) -> Callable[[View], View]:
        """Document that no key is needed."""
        decorate: Callable[[View], View] = self.doc(security=[])
        return decorate

    def headers(self, *parameters: dict[str, Any]) -> Callable[[View], View]:
        """Document request headers, each as a parameter object."""
        decorate: Callable[[View], View] = self.doc(parameters=list(parameters))
        return decorate

    def body(self, content: dict[str, Any], required: bool = True) -> Callable[[View], View]:
        """Document the request body: media type → media type object."""
        decorate: Callable[[View], View] = self.doc(requestBody={"content": content, "required": required})
        return decorate


def component(name: str) -> dict[str, Any]:
    """The media type object of a JSON body."""
    return {JSON: {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def make_api(app: Flask) -> Api:
    """The API object with every component schema registered."""
    app.config.update(API_TITLE="Gradkeel", API_VERSION=VERSION, OPENAPI_VERSION="3.1.0")
    api = Api(
        app,
        spec_kwargs={
            "info": {
                "description": "Train models on tables; get the model and a gradient-health report.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "security": [{"key": []}],
        },
    )
    api.spec.components.security_scheme(
        "key", {"type": "http", "scheme": "bearer", "description": "A key `id.secret`."}
    )
    for name, schema in (documents.COMPONENTS | config_components()).items():
        api.spec.components.schema(name, schema)
    return api
