"""What the description says beyond single operations: names, where an answer leads, examples to send."""

import json
from collections.abc import Iterator
from typing import Any

from gradkeel_service.conditional import JSON

Json = dict[str, Any]

THIS = "$response.body#/id"
FIRST = "$response.body#/data/0/id"
NEXT_PAGE = "$response.body#/next_cursor"

GIVES: dict[tuple[str, str], dict[str, str]] = {
    ("post", "/v1/datasets"): {"dataset_id": THIS, "sha256": "$response.body#/sha256"},
    ("get", "/v1/datasets"): {"dataset_id": FIRST},
    ("post", "/v1/uploads"): {"upload_id": THIS},
    ("post", "/v1/jobs"): {"job_id": THIS},
    ("post", "/v1/preflights"): {"job_id": THIS},
    ("get", "/v1/jobs"): {"job_id": FIRST},
    ("post", "/v1/jobs/{job_id}/retry"): {"job_id": THIS},
    ("post", "/v1/batches"): {"batch_id": THIS},
    ("get", "/v1/batches"): {"batch_id": FIRST},
    ("get", "/v1/jobs/{job_id}"): {"model_id": "$response.body#/model_id"},
    ("get", "/v1/models"): {"model_id": FIRST},
    ("post", "/v1/keys"): {"key_id": THIS},
    ("post", "/v1/keys/{key_id}/rotate"): {"key_id": THIS},
}
"""Where an answer holds what the path of another operation asks for: operation → parameter → place."""

CHOSEN_BY_CALLERS = frozenset({"submission_id"})
"""Parameters of paths that no answer gives."""

TRAIN_ON_IT = {"dataset_id": THIS, "target": "$response.body#/columns/0/name"}


def linked(document: Json) -> Json:
    """``document``, in place, with a name for every operation and links from answers to other operations."""
    operations = dict(_operations(document))
    for (method, path), operation in operations.items():
        operation["operationId"] = operation_id(method, path)
    for place, given in GIVES.items():
        if place in operations:
            for parameter, source in given.items():
                _lead(operations[place], _takers(operations, parameter), {parameter: source})
    for (method, _), operation in operations.items():
        if method == "get" and any(p.get("name") == "after" for p in operation.get("parameters", ())):
            _lead(operation, [operation["operationId"]], {"after": NEXT_PAGE})
    _offer_training(operations)
    return document


def _operations(document: Json) -> Iterator[tuple[tuple[str, str], Json]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield (method, path), operation


def operation_id(method: str, path: str) -> str:
    """``get_jobs_by_job_id`` for GET /v1/jobs/{job_id}."""
    words = [
        word for word in path.removeprefix("/v1/").replace(".", "_").replace("-", "_").split("/") if word
    ]
    return "_".join([method, *(f"by_{word[1:-1]}" if word.startswith("{") else word for word in words)])


def _takers(operations: dict[tuple[str, str], Json], parameter: str) -> list[str]:
    """Names of the operations whose path asks for the parameter."""
    return [
        operation["operationId"] for (_, path), operation in operations.items() if f"{{{parameter}}}" in path
    ]


def _lead(operation: Json, names: list[str], parameters: dict[str, str], **more: Any) -> None:
    status = next(status for status in operation["responses"] if str(status).startswith("2"))
    links = operation["responses"][status].setdefault("links", {})
    for name in names:
        links[name] = {"operationId": name, "parameters": parameters, **more}


def _offer_training(operations: dict[tuple[str, str], Json]) -> None:
    _lead(
        operations["get", "/v1/datasets/{dataset_id}"],
        [operations["post", "/v1/jobs"]["operationId"]],
        {},
        requestBody=TRAIN_ON_IT,
        description="Train a model of the data set's first column.",
    )


# ------------------------------------------------------------------------------------------------- examples

_ID = "0" * 22

EXAMPLE_IDS = {
    "dataset_id": f"ds_{_ID}",
    "job_id": f"job_{_ID}",
    "model_id": f"mdl_{_ID}",
    "batch_id": f"bat_{_ID}",
    "upload_id": f"upl_{_ID}",
    "key_id": f"key_{_ID}",
    "sha256": "0" * 64,
    "submission_id": "order-4711",
}
"""Stand-ins for what paths ask for; the tests put real ones in their place and send every example."""

_CONFIG: Json = {"dataset_id": EXAMPLE_IDS["dataset_id"], "target": "price", "preset": "fast"}
_LINE = {"custom_id": "first", "config": _CONFIG}

EXAMPLE_BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("post", "/v1/datasets"): {"text/csv": "rooms,zone,price\n3,A,211000\n2,B,180000\n"},
    ("post", "/v1/jobs"): {JSON: _CONFIG},
    ("post", "/v1/preflights"): {JSON: _CONFIG},
    ("post", "/v1/batches"): {
        "application/jsonl": json.dumps({"custom_id": "first", "config": _CONFIG}) + "\n"
    },
    ("post", "/v1/models/{model_id}/predict"): {JSON: {"records": [{"rooms": 3, "zone": "B"}]}},
    ("post", "/v1/keys"): {JSON: {"name": "reports", "scopes": ["read"]}},
}
"""Operation → media type → a body that is accepted, given a data set or model with these columns."""


def with_examples(document: Json) -> Json:
    """``document``, in place, with an example for each parameter of a path and for bodies of requests."""
    for path, item in document["paths"].items():
        for parameter in item.get("parameters", []):
            if parameter["in"] == "path":
                parameter["example"] = EXAMPLE_IDS[parameter["name"]]
        for method, operation in item.items():
            for media_type, example in EXAMPLE_BODIES.get((method, path), {}).items():
                operation["requestBody"]["content"][media_type]["example"] = example
    return document
