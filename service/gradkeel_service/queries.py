"""Query parameters: strict fields, one parser, problems with a pointer."""

import re
from datetime import UTC, datetime
from typing import Any, NoReturn

import marshmallow as ma
from webargs.flaskparser import FlaskParser

from gradkeel.contract.errors import FieldError
from gradkeel.contract.resolve import check_name
from gradkeel_service.errors import Refusal

MAX_WAIT_SECONDS = 60.0


class StrictParser(FlaskParser):
    """Refuses unknown parameters and repeats; errors become problem documents."""

    DEFAULT_UNKNOWN_BY_LOCATION = {"query": ma.RAISE}  # noqa: RUF012 -- as webargs declares it

    def load_querystring(self, req: Any, schema: ma.Schema) -> Any:
        for name, values in req.args.lists():
            if len(values) > 1:
                raise Refusal(
                    "invalid", f"the parameter {name[:80]!r} stands twice", [_fault(name, "repeated")]
                )
        return super().load_querystring(req, schema)

    def handle_error(self, error: ma.ValidationError, req: Any, schema: ma.Schema, **_: Any) -> NoReturn:
        messages: Any = error.messages
        messages = messages.get("query", messages) if isinstance(messages, dict) else {"": messages}
        faults = [_fault(name, text) for name, texts in messages.items() for text in _sentences(texts)]
        detail = faults[0].detail if len(faults) == 1 else "query parameters cannot be accepted"
        raise Refusal("invalid", detail, faults)


def _fault(name: str, text: str) -> FieldError:
    clear = name.replace("\0", "")[:80]
    return FieldError(f"/{clear}", "query", f"query parameter {clear!r}: {text}")


def _sentences(texts: Any) -> list[str]:
    return [str(text) for text in texts] if isinstance(texts, list) else [str(texts)]


class PlainText(ma.fields.String):
    """A name for people: no control characters, at most 200 characters."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if complaint := check_name(text):
            raise ma.ValidationError(complaint)
        return text


class WithoutNul(ma.fields.String):
    """Text to look for. PostgreSQL holds no NUL, and fails when it is asked for one."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if "\0" in text:
            raise ma.ValidationError("a NUL character is not accepted")
        return text


class WholeNumber(ma.fields.Integer):
    """An integer in ASCII digits, within bounds."""

    def __init__(self, low: int, high: int, **kwargs: Any) -> None:
        self.low, self.high = low, high
        super().__init__(validate=ma.validate.Range(low, high), **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not re.fullmatch(r"-?[0-9]{1,12}", str(value)):
            raise ma.ValidationError(f"must be a whole number from {self.low} to {self.high}")
        return int(value)


class Priority(WholeNumber):
    """The place of a job among those of its own project."""

    def __init__(self, **kwargs: Any) -> None:
        told = "-100 to 100: a project's jobs of a higher priority run first. Says nothing across projects."
        super().__init__(-100, 100, metadata={"description": told}, **kwargs)


class WaitSeconds(ma.fields.Float):
    """How long to wait at most; longer than 60 s is cut to 60 s."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:
        if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", str(value)):
            raise ma.ValidationError("must be a number of seconds, zero or more")
        return min(float(value), MAX_WAIT_SECONDS)


class Flag(ma.fields.Boolean):
    """``true`` or ``false``, nothing else."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if value not in ("true", "false"):
            raise ma.ValidationError("must be true or false")
        return bool(value == "true")


class Moment(ma.fields.AwareDateTime):
    """A point in time in ISO 8601 with an offset; read as UTC."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(format="iso", **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        moment: datetime = super()._deserialize(value, attr, data, **kwargs)
        try:
            return moment.astimezone(UTC)
        except OverflowError as error:
            raise ma.ValidationError("lies outside the years 1 to 9999") from error


class WaitQuery(ma.Schema):
    wait = WaitSeconds(
        load_default=0.0, metadata={"description": "Answer when the state changes, or after so many seconds."}
    )


class Nothing(ma.Schema):
    """No query parameters."""
