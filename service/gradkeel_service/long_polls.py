"""``?wait=``: an answer that comes once the state of a record has changed, or after so many seconds."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from flask import Response, request

from gradkeel_service.auth import project
from gradkeel_service.conditional import json_response
from gradkeel_service.parts import parts
from gradkeel_service.waiting import client_gone, poll


class _Row(Protocol):
    @property
    def state(self) -> Any: ...

    def to_json(self) -> dict[str, Any]: ...


R = TypeVar("R", bound=_Row)


def _document(row: _Row) -> Response:
    return json_response(row.to_json())


def answer_when_changed(
    look: Callable[[], R],
    may_change: Callable[[R], bool],
    seconds: float,
    render: Callable[[R], Response] = _document,
) -> Response:
    """The record as ``look`` finds it: at once, or where it ``may_change`` once its state is another.

    Past the cap on waiting requests it is answered at once, with ``Retry-After``.
    """
    row = first = look()
    crowded = False
    if seconds and may_change(first):
        with parts().seats.seat(project()) as seated:
            crowded = not seated
            if seated:
                gone = client_gone(request.environ)
                row = poll(look, lambda seen: seen.state != first.state, seconds, parts().stopping, gone)
    response = render(row)
    if crowded:
        response.headers["Retry-After"] = "1"
    return response
