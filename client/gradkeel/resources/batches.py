"""``/v1/batches``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from gradkeel.contract.states import BatchState, JobState
from gradkeel.documents import Document, Field, flag, mapping, moment, optional, text, whole
from gradkeel.resources.datasets import DatasetData
from gradkeel.resources.jobs import as_document
from gradkeel.sansio import flows
from gradkeel.sansio.commands import Flow
from gradkeel.sansio.configs import overlaid
from gradkeel.sansio.retry import RetryPolicy
from gradkeel.sinks import HashingSink, file_sink
from gradkeel.sources import IN_MEMORY, Progress, Source, from_file, source_of

if TYPE_CHECKING:
    from gradkeel.client import AsyncClient, Client

Json = dict[str, Any]
PATH = "/batches"
FILE_NAME = "batch.jsonl"
CONTENT_TYPE = "application/jsonl"

Item: TypeAlias = Mapping[str, Any] | tuple[str, Mapping[str, Any]]
"""A config; ``(custom_id, config)``; or ``{"custom_id": …, "config": {…}}``."""


class BatchResult(Document):
    """A line of a batch and what became of it.

    ``state`` is its job's, or ``rejected`` where it made none: ``error`` is then the problem document.
    ``line`` counts from 1 in what was sent.
    """

    line = Field(whole)
    custom_id = Field(optional(text))
    job_id = Field(optional(text))
    state = Field(text)
    metrics = Field(optional(mapping))
    verdict = Field(optional(text))
    error = Field(optional(mapping))

    @property
    def succeeded(self) -> bool:
        return self.state == JobState.SUCCEEDED


class BatchData(Document):
    """What the service says about a batch. ``counts`` are its jobs by state."""

    id = Field(text)
    state = Field(BatchState)
    priority = Field(whole)
    lines = Field(whole)
    rejected = Field(whole)
    counts = Field(mapping)
    cancel_requested = Field(flag)
    error = Field(optional(mapping))
    created_at = Field(moment)
    ended_at = Field(optional(moment))

    @property
    def ended(self) -> bool:
        """Whether all its lines are read and all its jobs have ended."""
        return self.state == BatchState.ENDED

    @property
    def read(self) -> int:
        """Lines that were read so far."""
        return int(self.raw["progress"]["read"])

    @property
    def fraction(self) -> float:
        """The part of the lines, in [0, 1], of which it is known what became."""
        return float(self.raw["progress"]["fraction"])

    @property
    def succeeded(self) -> bool:
        """Whether every line became a job that succeeded."""
        return self.ended and int(self.counts.get(JobState.SUCCEEDED, 0)) == self.lines


OnProgress: TypeAlias = Callable[[BatchData], Any]


def path_of(batch_id: str, *rest: str) -> str:
    return "/".join([PATH, flows.segment(batch_id), *rest])


def line_of(number: int, item: Item, common: Mapping[str, Any]) -> Json:
    """The line for the item in place ``number`` (from 1), which names it where nothing else does."""
    if isinstance(item, tuple):
        custom_id, config = item
    elif set(item) <= {"custom_id", "config"} and "config" in item:
        custom_id, config = str(item.get("custom_id", number)), item["config"]
    else:
        custom_id, config = str(number), item
    return {"custom_id": custom_id, "config": {**common, **config}}


def spooled(items: Iterable[Item], common: Mapping[str, Any]) -> Source:
    """The items as JSON lines in a temporary file, in memory where they are few: a retry sends them again."""
    file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 (lives as long as the source)
    for number, item in enumerate(items, 1):
        file.write(flows.encode(line_of(number, item, common)) + b"\n")
    file.seek(0)
    return from_file(file, FILE_NAME)


def common_keys(dataset: DatasetData | str | None, target: str | Sequence[str] | None) -> Json:
    """The keys of every config that does not give them itself."""
    dataset_id = dataset.id if isinstance(dataset, DatasetData) else dataset
    return overlaid(None, {"dataset_id": dataset_id, "target": as_document(target)})


def submit_flow(source: Source, priority: int | None, key: str | None, policy: RetryPolicy) -> Flow[Json]:
    headers = {"Content-Type": CONTENT_TYPE, "Repr-Digest": source.repr_digest}
    request = flows.post_body(PATH, source, params={"priority": priority}, headers=headers, key=key)
    return (yield from flows.document_of(request, policy))


def ended(document: Json) -> bool:
    return bool(document["state"] == BatchState.ENDED)


def wait_flow(
    batch_id: str, policy: RetryPolicy, timeout: float | None, on_progress: OnProgress | None
) -> Flow[Json]:
    """Wait for the end of a batch; ``on_progress`` is shown it about once a second."""
    show = None if on_progress is None else lambda document: on_progress(BatchData(document))
    what = f"The batch {batch_id}"
    return (yield from flows.poll(path_of(batch_id), ended, policy, timeout, what, on_look=show))


def results_flow(batch_id: str, policy: RetryPolicy, sink: HashingSink) -> Flow[None]:
    yield from flows.download(path_of(batch_id, "results"), {}, policy, sink, None)


def read_results(file: IO[bytes]) -> Iterator[BatchResult]:
    file.seek(0)
    for line in file:
        yield BatchResult(json.loads(line))


class Batch(BatchData):
    """A batch of the service. ``wait``, ``refresh`` and ``cancel`` bring it up to date in place."""

    __slots__ = ("_client",)

    def __init__(self, raw: Mapping[str, Any], client: Client) -> None:
        super().__init__(raw)
        self._client = client

    def refresh(self) -> Batch:
        """Read the batch again, in place."""
        self._raw = self._client.run(flows.document_of(flows.get(path_of(self.id)), self._client.policy))
        return self

    def wait(self, timeout: float | None = None, *, on_progress: OnProgress | None = None) -> Batch:
        """Wait for the end; ``timeout`` in seconds, ``on_progress`` is called about once a second.

        Lines that were rejected and jobs that failed raise nothing: see ``results``. Raises ``WaitTimeout``
        (the batch goes on).
        """
        self._raw = self._client.run(wait_flow(self.id, self._client.policy, timeout, on_progress))
        return self

    def results(self) -> Iterator[BatchResult]:
        """What became of each line, in the order they were sent; before the end, of those read so far."""
        with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as file:
            self._client.run(results_flow(self.id, self._client.policy, HashingSink(file)))
            yield from read_results(file)

    def save_results(self, path: str | Path) -> Path:
        """Save the results as JSON lines; the file appears only once it is whole."""
        target = Path(path)
        with file_sink(target) as sink:
            self._client.run(results_flow(self.id, self._client.policy, sink))
        return target

    def cancel(self) -> Batch:
        """Stop it: what is queued ends at once, what runs is asked to. ``ConflictError`` after the end."""
        request = flows.post(path_of(self.id, "cancel"))
        self._raw = self._client.run(flows.document_of(request, self._client.policy))
        return self


class Batches:
    """``client.batches``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def _bind(self, raw: Json) -> Batch:
        return Batch(raw, self._client)

    def submit(
        self,
        configs: Iterable[Item],
        *,
        dataset: DatasetData | str | None = None,
        target: str | Sequence[str] | None = None,
        priority: int | None = None,
        progress: Progress | None = None,
        idempotency_key: str | None = None,
    ) -> Batch:
        """Submit many jobs at once: configs, ``(custom_id, config)`` or ``{"custom_id", "config"}``.

        ``configs`` may be a generator; what it gives is not held in memory. Without a custom id a config is
        named by its place, from ``"1"``. ``dataset`` and ``target`` are for configs that name none.
        ``priority``: -100 to 100 among the jobs of the project. Bad configs do not raise: see ``results``.
        """
        source = spooled(configs, common_keys(dataset, target)).watched(progress)
        flow = submit_flow(source, priority, idempotency_key, self._client.policy)
        return self._bind(self._client.run(flow))

    def submit_file(
        self,
        file: Any,
        *,
        priority: int | None = None,
        progress: Progress | None = None,
        idempotency_key: str | None = None,
    ) -> Batch:
        """Submit a file of JSON lines ``{"custom_id": …, "config": {…}}``: a path or a binary file object."""
        source = source_of(file, FILE_NAME).watched(progress)
        flow = submit_flow(source, priority, idempotency_key, self._client.policy)
        return self._bind(self._client.run(flow))

    def get(self, batch_id: str) -> Batch:
        request = flows.get(path_of(batch_id))
        return self._bind(self._client.run(flows.document_of(request, self._client.policy)))

    def list(self, *, limit: int | None = None, order: str | None = None) -> Iterator[Batch]:
        """Every batch, page after page (``limit`` a page), newest first unless ``order`` is ``asc``."""
        params = {"limit": limit, "order": order}
        return self._client.iterate(flows.pages(PATH, params, self._client.policy, self._bind))


class AsyncBatch(BatchData):
    """A batch of the service, for asyncio. See ``Batch``."""

    __slots__ = ("_client",)

    def __init__(self, raw: Mapping[str, Any], client: AsyncClient) -> None:
        super().__init__(raw)
        self._client = client

    async def refresh(self) -> AsyncBatch:
        """Read the batch again, in place."""
        request = flows.get(path_of(self.id))
        self._raw = await self._client.run(flows.document_of(request, self._client.policy))
        return self

    async def wait(
        self, timeout: float | None = None, *, on_progress: OnProgress | None = None
    ) -> AsyncBatch:
        """See ``Batch.wait``; ``on_progress`` may be a coroutine function."""
        self._raw = await self._client.run(wait_flow(self.id, self._client.policy, timeout, on_progress))
        return self

    async def results(self) -> AsyncIterator[BatchResult]:
        """See ``Batch.results``."""
        with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as file:
            await self._client.run(results_flow(self.id, self._client.policy, HashingSink(file)))
            for result in read_results(file):
                yield result

    async def save_results(self, path: str | Path) -> Path:
        """See ``Batch.save_results``."""
        target = Path(path)
        with file_sink(target) as sink:
            await self._client.run(results_flow(self.id, self._client.policy, sink))
        return target

    async def cancel(self) -> AsyncBatch:
        """See ``Batch.cancel``."""
        request = flows.post(path_of(self.id, "cancel"))
        self._raw = await self._client.run(flows.document_of(request, self._client.policy))
        return self


class AsyncBatches:
    """``client.batches`` of ``AsyncClient``. See ``Batches``."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def _bind(self, raw: Json) -> AsyncBatch:
        return AsyncBatch(raw, self._client)

    async def submit(
        self,
        configs: Iterable[Item],
        *,
        dataset: DatasetData | str | None = None,
        target: str | Sequence[str] | None = None,
        priority: int | None = None,
        progress: Progress | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncBatch:
        """See ``Batches.submit``; ``configs`` are drawn and ``progress`` is called in a thread."""
        source = await self._client.in_thread(spooled, configs, common_keys(dataset, target))
        flow = submit_flow(source.watched(progress), priority, idempotency_key, self._client.policy)
        return self._bind(await self._client.run(flow))

    async def submit_file(
        self,
        file: Any,
        *,
        priority: int | None = None,
        progress: Progress | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncBatch:
        """See ``Batches.submit_file``."""
        source = await self._client.in_thread(source_of, file, FILE_NAME)
        flow = submit_flow(source.watched(progress), priority, idempotency_key, self._client.policy)
        return self._bind(await self._client.run(flow))

    async def get(self, batch_id: str) -> AsyncBatch:
        request = flows.get(path_of(batch_id))
        return self._bind(await self._client.run(flows.document_of(request, self._client.policy)))

    def list(self, *, limit: int | None = None, order: str | None = None) -> AsyncIterator[AsyncBatch]:
        """See ``Batches.list``."""
        params = {"limit": limit, "order": order}
        return self._client.iterate(flows.pages(PATH, params, self._client.policy, self._bind))
