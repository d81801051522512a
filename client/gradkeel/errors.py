"""What can go wrong for a caller of the SDK.

GradkeelError
├── APIConnectionError          the service cannot be reached, or no address of one is known
│   └── APITimeoutError         it did not answer in time
├── APIStatusError              it answered with an error; `status` holds the HTTP status
│   ├── BadRequestError         400
│   ├── AuthenticationError     401
│   ├── PermissionDeniedError   403
│   ├── NotFoundError           404
│   ├── ConflictError           409
│   ├── UnprocessableError      422
│   ├── RateLimitError          429
│   └── InternalServerError     500 and above
├── JobFailed                   `job` holds the job
│   └── (its `job.error` says why; its `job.model_id` may name the last good checkpoint's model)
├── JobCancelled                `job` holds the job
├── WaitTimeout                 the caller's own limit ran out; the work goes on
├── DatasetRejected             `dataset` holds the data set
├── DigestMismatch              bytes arrived that are not the ones the service named
└── MissingExtra                an optional package is needed; the message names the command

Each carries `request_id` and `problem` (the service's problem document, RFC 9457), None where there is none,
and can be pickled, as joblib does with what is raised in its workers. `__cause__` is the error of the
transport, where there was one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar


class GradkeelError(Exception):
    """Root of the SDK's errors."""

    def __init__(
        self, message: str, *, problem: Mapping[str, Any] | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.problem = dict(problem) if problem is not None else None
        self.request_id = request_id or (self.problem or {}).get("request_id")

    def __reduce__(self) -> tuple[Any, ...]:
        return _revived, (type(self), self.args, dict(self.__dict__))


E = TypeVar("E", bound=GradkeelError)


def _revived(kind: type[E], args: tuple[Any, ...], state: dict[str, Any]) -> E:
    """The error as it was, without calling its ``__init__``."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class APIConnectionError(GradkeelError):
    """The service cannot be reached, or no address of one is known."""


class APITimeoutError(APIConnectionError):
    """The service did not answer in time."""


class APIStatusError(GradkeelError):
    """The service answered with an error. ``status`` is the HTTP status."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        problem: Mapping[str, Any] | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, problem=problem, request_id=request_id)
        self.status = status


class BadRequestError(APIStatusError):
    """400: the request cannot be read."""


class AuthenticationError(APIStatusError):
    """401: no key, or one that is wrong, expired or revoked."""


class PermissionDeniedError(APIStatusError):
    """403: the key lacks the scope."""


class NotFoundError(APIStatusError):
    """404: no such thing in this project."""


class ConflictError(APIStatusError):
    """409: the state of the thing forbids it."""


class UnprocessableError(APIStatusError):
    """422: understood and refused; ``problem["errors"]`` names each place."""


class RateLimitError(APIStatusError):
    """429: too many requests, or a quota is used up."""


class InternalServerError(APIStatusError):
    """500 and above: the service failed, or is not ready. In words it names the request, to look it up."""

    def __str__(self) -> str:
        return f"{self.message} (request {self.request_id})" if self.request_id else self.message


STATUS_ERRORS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableError,
    429: RateLimitError,
}


def error_class(status: int) -> type[APIStatusError]:
    """The class for an HTTP status; other statuses from 400 to 499 are plain ``APIStatusError``."""
    return InternalServerError if status >= 500 else STATUS_ERRORS.get(status, APIStatusError)


class JobFailed(GradkeelError):
    """A job that was waited for ended as failed. ``job`` holds it."""

    def __init__(
        self,
        message: str,
        *,
        job: Any,
        problem: Mapping[str, Any] | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, problem=problem, request_id=request_id)
        self.job = job


class JobCancelled(GradkeelError):
    """A job that was waited for ended as cancelled. ``job`` holds it."""

    def __init__(self, message: str, *, job: Any, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.job = job


class WaitTimeout(GradkeelError):
    """The caller's limit for waiting ran out. What was waited for goes on."""


class DatasetRejected(GradkeelError):
    """The service read the data set and refused it; ``problem`` names row, line and column."""

    def __init__(
        self,
        message: str,
        *,
        dataset: Any,
        problem: Mapping[str, Any] | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, problem=problem, request_id=request_id)
        self.dataset = dataset


class DigestMismatch(GradkeelError):
    """Bytes arrived that do not have the digest that the service named."""


class MissingExtra(GradkeelError):
    """An optional package is not installed; the message names the command that brings it."""
