"""From an outcome that is no success to the error to raise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gradkeel.errors import APIConnectionError, APIStatusError, APITimeoutError, GradkeelError, error_class
from gradkeel.sansio.commands import Answer, Failure, Outcome


def error_of(outcome: Outcome) -> GradkeelError:
    """The error that stands for this outcome."""
    if isinstance(outcome, Failure):
        kind = APITimeoutError if outcome.timed_out else APIConnectionError
        error = kind(outcome.reason)
        error.__cause__ = outcome.cause
        return error
    return status_error(outcome)


def status_error(answer: Answer) -> APIStatusError:
    problem = read_object(answer.content)
    message = describe(problem) if problem else f"The service answered {answer.status}"
    kind = error_class(answer.status)
    return kind(message, status=answer.status, problem=problem, request_id=answer.request_id)


def not_json(answer: Answer) -> APIStatusError:
    """The error for a success that no Gradkeel service sent."""
    return error_class(answer.status)(
        f"The answer ({answer.status}) is no JSON object: is this the address of a Gradkeel service?",
        status=answer.status,
        request_id=answer.request_id,
    )


def read_object(content: bytes) -> dict[str, Any] | None:
    """The JSON object in a body, or None where it holds something else (a proxy's page, nothing)."""
    try:
        document = json.loads(content)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def describe(problem: Mapping[str, Any]) -> str:
    """A problem document in words: title, detail, and a line for each place that is named."""
    head = ": ".join(str(problem[key]) for key in ("title", "detail") if problem.get(key))
    said = str(problem.get("detail") or "")
    lines = [_line(error, said) for error in problem.get("errors") or []]
    return "\n".join([head or "The service gave no reason", *filter(None, lines)])


def _line(error: Mapping[str, Any], said: str) -> str | None:
    """Place and detail of one error; the detail is not repeated where the head has said it."""
    place, detail = _place(error), str(error.get("detail") or "")
    if not detail or detail in said:
        return f"  at {place}" if place else None
    return f"  {place}: {detail}" if place else f"  {detail}"


def _place(error: Mapping[str, Any]) -> str:
    named = [f"{key} {error[key]}" for key in ("line", "column", "row") if error.get(key) is not None]
    return ", ".join([error["pointer"], *named] if error.get("pointer") else named)
