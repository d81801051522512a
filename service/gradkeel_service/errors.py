"""What can go wrong in the service.

ServiceError
├── Refusal      an answer that is a problem document
└── StackError   `gradkeel up` could not start or stop something
"""

from collections.abc import Mapping, Sequence

from gradkeel.contract.errors import FieldError


class ServiceError(Exception):
    """Root of this package's errors."""


class Refusal(ServiceError):
    """The request is answered with the problem ``code`` (a key of ``PROBLEMS``)."""

    def __init__(
        self,
        code: str,
        detail: str,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        super().__init__(f"{code}: {detail}")


def invalid(pointer: str, code: str, detail: str) -> Refusal:
    """A 422 about one place of the request."""
    return Refusal("invalid", detail, [FieldError(pointer, code, detail)])


class StackError(ServiceError):
    """A part of the local stack could not be started or stopped; the message says what to do."""
