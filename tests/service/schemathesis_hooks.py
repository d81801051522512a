"""What schemathesis cannot know: how to write our media types, which key to leave, and not to wait."""

import json
import os
from typing import Any

import schemathesis
from schemathesis.generation import GenerationMode

from gradkeel_service.guidance import EXAMPLE_IDS

OWN_KEY = os.environ["GRADKEEL_OWN_KEY"]
LONGEST_WAIT = 0.2
UNBROKEN = ("Positive test case", "Default positive test case")
"""What schemathesis says of requests that it did not break; along links it counts some of them as broken."""
THERE: dict[str, list[str]] = json.loads(os.environ["GRADKEEL_THERE"])
"""Ids of what lies in the service, by the parameter of paths that asks for them."""


@schemathesis.serializer("application/offset+octet-stream")
def as_bytes(_context: Any, value: Any) -> Any:
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.serializer("application/jsonl", "application/x-ndjson", "application/ndjson")
def as_lines(_context: Any, value: Any) -> Any:
    if isinstance(value, bytes):
        return value
    lines = value if isinstance(value, list) else [value]
    return "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines).encode()


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Put what is really there in the place of the examples' stand-ins.

    A fuzzer that revokes its own key learns nothing more, and one that waits only takes longer.
    """
    for name, value in (case.path_parameters or {}).items():
        if value == OWN_KEY:
            case.path_parameters[name] = EXAMPLE_IDS["key_id"]
        elif value == EXAMPLE_IDS.get(name):
            case.path_parameters[name] = real(case, name)
    wait = (case.query or {}).get("wait")
    if isinstance(wait, int | float) and wait > LONGEST_WAIT:
        case.query["wait"] = LONGEST_WAIT
    case.body = placed(case.body)
    if case.meta is not None and case.meta.phase.data.description in UNBROKEN:
        case.meta.generation.mode = GenerationMode.POSITIVE


def real(case: Any, name: str) -> str:
    """Something that is there; it is not used again where the request takes it away or changes it."""
    known = THERE["queued" if case.operation.path.endswith("{job_id}/cancel") else name]
    spent = case.operation.method.upper() not in ("GET", "HEAD")
    return str(known.pop() if spent and len(known) > 1 else known[0])


def placed(body: Any) -> Any:
    """The body with a real data set in it."""
    if isinstance(body, str):
        return body.replace(EXAMPLE_IDS["dataset_id"], THERE["dataset_id"][0])
    if isinstance(body, dict) and body.get("dataset_id") == EXAMPLE_IDS["dataset_id"]:
        return body | {"dataset_id": THERE["dataset_id"][0]}
    return body
