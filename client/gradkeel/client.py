"""``Client`` and ``AsyncClient``: two thin transports that drive the same flows (``gradkeel.sansio``)."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2

from gradkeel.profile import Access, find_access, is_loopback
from gradkeel.resources.batches import AsyncBatches, Batches
from gradkeel.resources.datasets import AsyncDatasets, DatasetData, Datasets
from gradkeel.resources.jobs import AsyncJob, AsyncJobs, Job, Jobs, OnEvent
from gradkeel.resources.keys import AsyncKeys, Keys
from gradkeel.resources.models import AsyncModels, Models
from gradkeel.resources.preflights import AsyncPreflights, Preflights
from gradkeel.resources.submissions import AsyncSubmissions, Submissions
from gradkeel.resources.usage import Usage, usage_flow
from gradkeel.sansio.commands import (
    Answer,
    Body,
    Call,
    Clock,
    Emit,
    Exchange,
    Failure,
    Flow,
    NextEvent,
    OpenEvents,
    Outcome,
    Request,
    Sleep,
    WireEvent,
)
from gradkeel.sansio.retry import RetryPolicy
from gradkeel.scores import CrossValidation, scores_of, with_folds

T = TypeVar("T")

DEFAULT_TIMEOUT_SECONDS = 60.0
CONNECT_SECONDS = 10.0
NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


def _access(url: str | None, api_key: str | None, transport: Any) -> Access:
    """Where to go; a transport may name the one address that it serves (see ``gradkeel.testing``)."""
    return find_access(url or getattr(transport, "url", None), api_key)


def _settings(access: Access, timeout: float) -> dict[str, Any]:
    """The arguments that both kinds of httpx2 client take."""
    headers = {"User-Agent": f"gradkeel-python/{version('gradkeel')}"}
    if access.api_key:
        headers["Authorization"] = f"Bearer {access.api_key}"
    return {
        "base_url": access.url,
        "headers": headers,
        "timeout": httpx2.Timeout(timeout, connect=CONNECT_SECONDS),
        "trust_env": not is_loopback(access.url),
        "follow_redirects": False,
    }


def _arguments(request: Request, default_timeout: float) -> dict[str, Any]:
    """A request as keyword arguments of ``build_request``, its body apart."""
    seconds = request.timeout or default_timeout
    return {
        "method": request.method,
        "url": f"{request.prefix}{request.path}",
        "params": dict(request.params) or None,
        "headers": dict(request.headers),
        "timeout": httpx2.Timeout(seconds, connect=CONNECT_SECONDS),
    }


def _failure(error: httpx2.TransportError, url: str) -> Failure:
    sent = not isinstance(error, NOT_SENT)
    if isinstance(error, httpx2.TimeoutException):
        return Failure(f"{url} did not answer in time", timed_out=True, sent=sent, cause=error)
    return Failure(f"Cannot reach {url}: {error or type(error).__name__}", sent=sent, cause=error)


def _answer(response: httpx2.Response, content: bytes) -> Answer:
    return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, content)


def _wire_event(event: httpx2.ServerSentEvent) -> WireEvent:
    return WireEvent(event.id, event.event, event.data)


class _Wire:
    """Performs the commands of one flow over a blocking transport; holds its open event stream."""

    def __init__(self, http: httpx2.Client, url: str, timeout: float) -> None:
        self._http = http
        self._url = url
        self._timeout = timeout
        self._stream: httpx2.Response | None = None
        self._events: Iterator[httpx2.ServerSentEvent] = iter(())
        self._table: dict[type, Callable[[Any], Any]] = {
            Exchange: self._exchange,
            OpenEvents: self._open,
            NextEvent: self._next,
            Sleep: lambda command: time.sleep(command.seconds),
            Clock: lambda command: time.monotonic(),
            Call: lambda command: command.function(command.argument),
        }

    def perform(self, command: Any) -> Any:
        return self._table[type(command)](command)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def _send(self, request: Request) -> httpx2.Response:
        content = request.content if request.body is None else request.body.chunks()
        built = self._http.build_request(**_arguments(request, self._timeout), content=content)
        if request.body is not None:
            _declare_length(built, request.body)
        return self._http.send(built, stream=True)

    def _exchange(self, command: Exchange) -> Outcome:
        try:
            response = self._send(command.request)
            try:
                if command.sink is None or response.status_code >= 300:
                    return _answer(response, response.read())
                for chunk in response.iter_bytes():
                    command.sink.write(chunk)
                return _answer(response, b"")
            finally:
                response.close()
        except httpx2.TransportError as error:
            return _failure(error, self._url)

    def _open(self, command: OpenEvents) -> Outcome:
        self.close()
        try:
            self._stream = self._send(command.request)
            if self._stream.status_code >= 300:
                return _answer(self._stream, self._stream.read())
        except httpx2.TransportError as error:
            return _failure(error, self._url)
        self._events = iter(httpx2.EventSource(self._stream))
        return _answer(self._stream, b"")

    def _next(self, command: NextEvent) -> WireEvent | Failure | None:
        try:
            event = next(self._events, None)
        except httpx2.TransportError as error:
            return _failure(error, self._url)
        return None if event is None else _wire_event(event)


def _declare_length(request: httpx2.Request, body: Body) -> None:
    """Send a known length in place of chunks, so that the service can refuse too much at once."""
    request.headers.pop("transfer-encoding", None)
    request.headers["content-length"] = str(body.size)


class _Copied:
    """How clients are copied and pickled: a copy is the client itself, a pickle holds the address only.

    The key stays out of pickles: where one is loaded, it is looked for anew (see ``find_access``).
    """

    url: str
    timeout: float
    policy: RetryPolicy
    _transport: Any

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self._transport is not None:
            raise TypeError(
                "a client with a transport of its own cannot be pickled: it lives in this process"
            )
        return _reopened, (type(self), self.url, self.timeout, self.policy.max_retries)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.url}>"


def _reopened(kind: Callable[..., T], url: str, timeout: float, max_retries: int) -> T:
    return kind(url, timeout=timeout, max_retries=max_retries)


class Client(_Copied):
    """A service, as seen from Python. Use it as a context manager, or call ``close``.

    ``url`` and ``api_key`` default to GRADKEEL_URL and GRADKEEL_API_KEY, then to the profile that
    ``gradkeel up`` wrote. ``timeout`` is in seconds without a byte; ``max_retries`` counts the tries after
    the first. ``transport`` takes the place of the network: ``gradkeel.testing.FakeService`` is one.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        max_retries: int = RetryPolicy.max_retries,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        access = _access(url, api_key, transport)
        self.url = access.url
        self._transport = transport
        self.timeout = timeout
        self.policy = RetryPolicy(max_retries)
        self._http = httpx2.Client(**_settings(access, timeout), transport=transport)
        self.datasets = Datasets(self)
        self.jobs = Jobs(self)
        self.preflights = Preflights(self)
        self.batches = Batches(self)
        self.models = Models(self)
        self.keys = Keys(self)
        self.submissions = Submissions(self)

    def cross_validate(
        self,
        data: DatasetData | str | None = None,
        *,
        target: str | None = None,
        folds: int = 5,
        repeats: int = 1,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        config: Mapping[str, Any] | None = None,
        **blocks: Any,
    ) -> CrossValidation[Job]:
        """Train and judge a config on each of so many folds of the rows outside the test part; waits.

        The kind of the split says how rows are parted: random, stratified, group, or ordered (a growing
        window). Data and config as in ``jobs.create``. Raises ``WaitTimeout`` (the job goes on),
        ``JobFailed``, ``JobCancelled``, ``UnprocessableError``.
        """
        job = self.jobs.create(
            data, target=target, config=config, **with_folds(config, blocks, folds, repeats)
        )
        job.wait(timeout, on_event=on_event)
        return scores_of(job.report(), job)

    def usage(self) -> Usage:
        """What the project uses, beside what it may use (scope admin)."""
        return self.run(usage_flow(self.policy))

    def run(self, flow: Flow[T]) -> T:
        """Drive a flow to its result."""
        wire = _Wire(self._http, self.url, self.timeout)
        reply: Any = None
        try:
            while True:
                reply = wire.perform(flow.send(reply))
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            flow.close()
            wire.close()

    def iterate(self, flow: Flow[None]) -> Iterator[Any]:
        """Drive a flow, handing out what it emits."""
        wire = _Wire(self._http, self.url, self.timeout)
        reply: Any = None
        try:
            while True:
                try:
                    command = flow.send(reply)
                except StopIteration:
                    return
                reply = None
                if isinstance(command, Emit):
                    yield command.item
                else:
                    reply = wire.perform(command)
        finally:
            flow.close()
            wire.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _AsyncWire:
    """Performs the commands of one flow under asyncio; holds its open event stream."""

    def __init__(self, http: httpx2.AsyncClient, url: str, timeout: float) -> None:
        self._http = http
        self._url = url
        self._timeout = timeout
        self._stream: httpx2.Response | None = None
        self._events: AsyncIterator[httpx2.ServerSentEvent] | None = None
        self._table: dict[type, Callable[[Any], Any]] = {
            Exchange: self._exchange,
            OpenEvents: self._open,
            NextEvent: self._next,
            Sleep: lambda command: asyncio.sleep(command.seconds),
            Clock: lambda command: time.monotonic(),
            Call: lambda command: command.function(command.argument),
        }

    async def perform(self, command: Any) -> Any:
        reply = self._table[type(command)](command)
        return await reply if inspect.isawaitable(reply) else reply

    async def close(self) -> None:
        if self._stream is not None:
            await self._stream.aclose()

    async def _send(self, request: Request) -> httpx2.Response:
        content = request.content if request.body is None else _threaded(request.body.chunks())
        built = self._http.build_request(**_arguments(request, self._timeout), content=content)
        if request.body is not None:
            _declare_length(built, request.body)
        return await self._http.send(built, stream=True)

    async def _exchange(self, command: Exchange) -> Outcome:
        try:
            response = await self._send(command.request)
            try:
                if command.sink is None or response.status_code >= 300:
                    return _answer(response, await response.aread())
                async for chunk in response.aiter_bytes():
                    await asyncio.to_thread(command.sink.write, chunk)
                return _answer(response, b"")
            finally:
                await response.aclose()
        except httpx2.TransportError as error:
            return _failure(error, self._url)

    async def _open(self, command: OpenEvents) -> Outcome:
        await self.close()
        try:
            self._stream = await self._send(command.request)
            if self._stream.status_code >= 300:
                return _answer(self._stream, await self._stream.aread())
        except httpx2.TransportError as error:
            return _failure(error, self._url)
        self._events = aiter(httpx2.EventSource(self._stream))
        return _answer(self._stream, b"")

    async def _next(self, command: NextEvent) -> WireEvent | Failure | None:
        assert self._events is not None
        try:
            return _wire_event(await anext(self._events))
        except StopAsyncIteration:
            return None
        except httpx2.TransportError as error:
            return _failure(error, self._url)


async def _threaded(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Read a file's pieces in a thread, so that the event loop goes on."""
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


class AsyncClient(_Copied):
    """``Client`` for asyncio: the same names, awaited; iterators become asynchronous ones."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        max_retries: int = RetryPolicy.max_retries,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        access = _access(url, api_key, transport)
        self.url = access.url
        self._transport = transport
        self.timeout = timeout
        self.policy = RetryPolicy(max_retries)
        self._http = httpx2.AsyncClient(**_settings(access, timeout), transport=transport)
        self.datasets = AsyncDatasets(self)
        self.jobs = AsyncJobs(self)
        self.preflights = AsyncPreflights(self)
        self.batches = AsyncBatches(self)
        self.models = AsyncModels(self)
        self.keys = AsyncKeys(self)
        self.submissions = AsyncSubmissions(self)

    async def cross_validate(
        self,
        data: DatasetData | str | None = None,
        *,
        target: str | None = None,
        folds: int = 5,
        repeats: int = 1,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        config: Mapping[str, Any] | None = None,
        **blocks: Any,
    ) -> CrossValidation[AsyncJob]:
        """See ``Client.cross_validate``; ``on_event`` may be a coroutine function."""
        job = await self.jobs.create(
            data, target=target, config=config, **with_folds(config, blocks, folds, repeats)
        )
        await job.wait(timeout, on_event=on_event)
        return scores_of(await job.report(), job)

    async def usage(self) -> Usage:
        """See ``Client.usage``."""
        return await self.run(usage_flow(self.policy))

    async def run(self, flow: Flow[T]) -> T:
        """Drive a flow to its result."""
        wire = _AsyncWire(self._http, self.url, self.timeout)
        reply: Any = None
        try:
            while True:
                reply = await wire.perform(flow.send(reply))
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            flow.close()
            await wire.close()

    async def iterate(self, flow: Flow[None]) -> AsyncIterator[Any]:
        """Drive a flow, handing out what it emits."""
        wire = _AsyncWire(self._http, self.url, self.timeout)
        reply: Any = None
        try:
            while True:
                try:
                    command = flow.send(reply)
                except StopIteration:
                    return
                reply = None
                if isinstance(command, Emit):
                    yield command.item
                else:
                    reply = await wire.perform(command)
        finally:
            flow.close()
            await wire.close()

    async def in_thread(self, function: Callable[..., T], *args: Any) -> T:
        """Run something that reads files without holding up the event loop."""
        return await asyncio.to_thread(function, *args)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
