"""The description of the API, its page, and the schemas it serves."""

from __future__ import annotations

import re

import httpx2 as httpx
import jsonschema
from flask import Flask
from openapi_spec_validator import validate

from gradkeel.contract.json_schema import config_components
from gradkeel_service.documents import COMPONENTS
from service.conftest import Service


def test_the_document_is_valid_and_whole(client: httpx.Client, app: Flask) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    validate(document)
    described = {
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method in item
        if method not in ("parameters", "head", "options")
    }
    served = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/v1/")
        for method in set(rule.methods or ()) - {"HEAD", "OPTIONS"}
    }
    assert served == described


def test_names_of_schemas_do_not_collide() -> None:
    assert COMPONENTS.keys().isdisjoint(config_components())


def test_every_operation_is_described(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            assert operation.get("summary"), (method, path)
            assert "application/problem+json" in str(operation["responses"]) or "$ref" in str(
                operation["responses"]
            )


def test_answers_match_their_schemas(service: Service, client: httpx.Client) -> None:
    root = {"components": {"schemas": COMPONENTS}}
    job = service.ended_job()
    for name, path in {
        "Job": f"/v1/jobs/{job.id}",
        "JobPage": "/v1/jobs",
        "Dataset": f"/v1/datasets/{job.dataset_id}",
        "DatasetPage": "/v1/datasets",
        "ModelPage": "/v1/models",
        "KeyPage": "/v1/keys",
        "Preview": f"/v1/datasets/{job.dataset_id}/preview",
        "Problem": "/v1/jobs/none",
    }.items():
        schema = {"$ref": f"#/components/schemas/{name}"} | root
        jsonschema.validate(client.get(path).json(), schema)


def test_the_config_schema_takes_what_the_service_takes(service: Service, client: httpx.Client) -> None:
    schema = client.get("/v1/schemas/config.json").json()
    config = {"dataset_id": service.ready_dataset().id, "target": "price", "loss": {"kind": "huber"}}
    jsonschema.validate(config, schema)
    resolved = client.post("/v1/jobs?validate_only=true", json=config).json()
    jsonschema.validate(resolved, schema)


def test_the_page_needs_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    sources = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(sources) >= 4
    for source in sources:
        assert "//" not in source
        assert client.get(f"/{source}").status_code == 200
    assert client.get("/docs/assets/../app.py").status_code == 404
