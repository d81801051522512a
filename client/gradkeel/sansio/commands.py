"""What a flow may ask of the transport that drives it."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

T = TypeVar("T")


class Body(Protocol):
    """A request body that can be sent again from its beginning."""

    @property
    def size(self) -> int:
        """In bytes."""

    def chunks(self) -> Iterator[bytes]:
        """The bytes, from the beginning, in pieces."""


class Sink(Protocol):
    """Where a download goes."""

    def restart(self) -> None:
        """Forget what was written: the download begins anew."""

    def write(self, chunk: bytes) -> None:
        """Take the next bytes."""


@dataclass(frozen=True)
class Request:
    """One HTTP request below ``prefix``. ``timeout``: seconds without a byte; None means the client's own.

    ``repeatable`` says that sending it twice does no more than sending it once.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    body: Body | None = None
    timeout: float | None = None
    repeatable: bool = True
    prefix: str = "/v1"


@dataclass(frozen=True)
class Answer:
    """What came back. Header names are lower case; ``content`` is empty where it went to a sink."""

    status: int
    headers: Mapping[str, str]
    content: bytes = b""

    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def request_id(self) -> str | None:
        """The id under which the service's log knows the request."""
        return self.headers.get("x-request-id")


@dataclass(frozen=True)
class Failure:
    """Nothing usable came back. ``sent`` is False where the connection never stood."""

    reason: str
    timed_out: bool = False
    sent: bool = True
    cause: BaseException | None = field(default=None, compare=False)


Outcome: TypeAlias = Answer | Failure


@dataclass(frozen=True)
class Exchange:
    """Send the request, read the whole answer → ``Outcome``. The body of a 2xx goes to ``sink`` if given."""

    request: Request
    sink: Sink | None = None


@dataclass(frozen=True)
class OpenEvents:
    """Open an event stream → ``Outcome``; a former one is closed."""

    request: Request


@dataclass(frozen=True)
class NextEvent:
    """The next event of the open stream → ``WireEvent``, ``Failure``, or None where the service closed it."""


@dataclass(frozen=True)
class WireEvent:
    """One server-sent event, not yet read."""

    id: str
    name: str
    data: str


@dataclass(frozen=True)
class Sleep:
    """Let ``seconds`` pass → None."""

    seconds: float


@dataclass(frozen=True)
class Clock:
    """The monotonic time in seconds → float."""


@dataclass(frozen=True)
class Call:
    """Call the caller's function (awaited where it returns an awaitable) → None."""

    function: Callable[[Any], Any]
    argument: Any


@dataclass(frozen=True)
class Emit:
    """Hand one item to whoever iterates → None."""

    item: Any


Command: TypeAlias = Exchange | OpenEvents | NextEvent | Sleep | Clock | Call | Emit
Flow: TypeAlias = Generator[Command, Any, T]
