"""``/v1/datasets``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradkeel import display
from gradkeel.bookmarks import FileBookmark
from gradkeel.contract.states import DatasetState
from gradkeel.documents import Document, Field, many, moment, optional, text, whole
from gradkeel.errors import DatasetRejected, GradkeelError
from gradkeel.sansio import flows, uploads
from gradkeel.sansio.commands import Answer, Failure, Flow, Request
from gradkeel.sansio.problems import describe, error_of
from gradkeel.sansio.retry import RetryPolicy
from gradkeel.sources import Progress, Source, source_of

if TYPE_CHECKING:
    from gradkeel.client import AsyncClient, Client

Json = dict[str, Any]
PATH = "/datasets"


class Column(Document):
    """A column of a data set as the service reads it."""

    name = Field(text)
    type = Field(text)
    missing = Field(whole)


class Finding(Document):
    """Something about the data that is worth a look, such as the cell that makes text of a column of numbers.

    ``row`` and ``line`` of the first cell that it is about, where it is about cells.
    """

    code = Field(text)
    column = Field(optional(text))
    detail = Field(text)
    count = Field(optional(whole))
    row = Field(optional(whole))
    line = Field(optional(whole))


def findings_of(profile: Mapping[str, Any]) -> tuple[Finding, ...]:
    return tuple(Finding(found) for found in profile.get("findings") or ())


class DatasetData(Document):
    """What the service says about a data set. ``rows`` and ``columns`` are known once it is ready."""

    id = Field(text)
    name = Field(text)
    sha256 = Field(text)
    bytes = Field(whole)
    state = Field(DatasetState)
    rows = Field(optional(whole))
    columns = Field(many(Column))
    error = Field(optional(dict[str, Any]))
    created_at = Field(moment)

    def _html(self) -> str:
        about = [
            ("rows", self.rows),
            ("bytes", self.bytes),
            ("sha256", self.sha256),
            ("error", describe(self.error) if self.error else None),
        ]
        columns = [(column.name, column.type, column.missing) for column in self.columns]
        listed = display.table(["column", "type", "missing"], columns) if columns else ""
        return display.card(self._title(), (self.state,), display.facts(about), listed, self._findings_html())

    def _findings_html(self) -> str:
        """What was noticed about the data, where that can be known without waiting."""
        return ""


def findings_table(findings: Sequence[Finding]) -> str:
    rows = [(finding.column, finding.detail) for finding in findings]
    return display.table(["column", "look at this"], rows) if rows else ""


@dataclass(frozen=True)
class Way:
    """How a source is sent: in one request, or resumably, with the upload's id remembered."""

    resumable: bool = False
    bookmark: uploads.Bookmark | None = None


PLAIN = Way()


def path_of(dataset_id: str, *rest: str) -> str:
    return "/".join([PATH, flows.segment(dataset_id), *rest])


def settled(document: Json) -> bool:
    return bool(document["state"] != DatasetState.INGESTING)


def wait_flow(dataset_id: str, policy: RetryPolicy, timeout: float | None) -> Flow[Json]:
    """Wait until the data set is ready. Raises ``DatasetRejected`` and ``WaitTimeout``."""
    path = path_of(dataset_id)
    what = f"The data set {dataset_id}"
    document, request_id = yield from flows.polled(path, settled, policy, timeout, what)
    if document["state"] == DatasetState.REJECTED:
        problem = document.get("error") or {}
        named = problem.get("request_id") or request_id
        data = DatasetData(document)
        raise DatasetRejected(describe(problem), dataset=data, problem=problem, request_id=named)
    return document


def upload_flow(
    source: Source, options: Mapping[str, Any], policy: RetryPolicy, way: Way = PLAIN
) -> Flow[Json]:
    """Send a source, unless the project already has these bytes, read with the same (default) options."""
    if all(value is None for value in options.values()):
        known = yield from known_flow(source.sha256, policy)
        if known is not None:
            return known
    if way.resumable:
        dataset_id = yield from uploads.send(source, options, policy, way.bookmark)
        return (yield from flows.document_of(flows.get(path_of(dataset_id)), policy))
    params = {"name": source.name, **options}
    headers = {"Repr-Digest": source.repr_digest}
    request = flows.post_body(PATH, source, params=params, headers=headers, key=None)
    return (yield from flows.document_of(request, policy))


def way_of(source: Source, options: Mapping[str, Any], resumable: bool | None, url: str) -> Way:
    """Large sources go resumably, unless the caller says which way to go."""
    if not goes_resumably(source.size, resumable):
        return PLAIN
    return Way(True, FileBookmark.of(url, source.sha256, source.name, options))


def goes_resumably(size: int, resumable: bool | None) -> bool:
    return size >= uploads.RESUMABLE_BYTES if resumable is None else resumable


def known_flow(sha256: str, policy: RetryPolicy) -> Flow[Json | None]:
    """The project's data set of these bytes, or None. One that was rejected does not count."""
    request = Request("HEAD", f"{PATH}/by-digest/{sha256}")
    outcome = yield from flows.outcome_of(request, policy)
    if isinstance(outcome, Answer) and outcome.status == 404:
        return None
    if isinstance(outcome, Failure) or outcome.status >= 300:
        raise error_of(outcome)
    document = yield from flows.document_of(flows.get(request.path), policy)
    return None if document["state"] == DatasetState.REJECTED else document


def preview_request(dataset_id: str, rows: int) -> Request:
    return flows.get(path_of(dataset_id, "preview"), {"rows": rows})


def read_options(
    delimiter: str | None, decimal: str | None, encoding: str | None, header: bool | None
) -> dict[str, Any]:
    """How to read the file, where the service's own sniffing is to be overridden."""
    return {"delimiter": delimiter, "decimal": decimal, "encoding": encoding, "header": header}


class Dataset(DatasetData):
    """A data set of the service."""

    __slots__ = ("_client", "_findings")

    def __init__(self, raw: Mapping[str, Any], client: Client) -> None:
        super().__init__(raw)
        self._client = client
        self._findings: tuple[Finding, ...] | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What reading noticed about the data: asked for when first used, and kept.

        Raises ``ConflictError`` while the data set is being read, and where it was rejected.
        """
        if self._findings is None:
            self._findings = findings_of(self.profile())
        return self._findings

    def _findings_html(self) -> str:
        if self.state != DatasetState.READY:
            return ""
        try:
            return findings_table(self.findings)
        except (GradkeelError, RuntimeError):  # out of reach, or the client is closed: the rest is shown
            return ""

    def refresh(self) -> Dataset:
        """Read the data set again, in place."""
        self._raw = self._client.run(flows.document_of(flows.get(path_of(self.id)), self._client.policy))
        return self

    def wait(self, timeout: float | None = None) -> Dataset:
        """Wait until it is ready; ``timeout`` in seconds. Raises ``DatasetRejected``, ``WaitTimeout``."""
        self._raw = self._client.run(wait_flow(self.id, self._client.policy, timeout))
        return self

    def profile(self) -> Json:
        """Types, missing cells, quantiles, outliers, scale ratio and more, of every column."""
        return self._client.run(
            flows.document_of(flows.get(path_of(self.id, "profile")), self._client.policy)
        )

    def preview(self, rows: int = 10) -> Json:
        """The first rows."""
        return self._client.run(flows.document_of(preview_request(self.id, rows), self._client.policy))

    def delete(self) -> None:
        """Delete it. Raises ``ConflictError`` while a job uses it."""
        self._client.run(flows.nothing_of(flows.delete(path_of(self.id)), self._client.policy))


class Datasets:
    """``client.datasets``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def _bind(self, raw: Json) -> Dataset:
        return Dataset(raw, self._client)

    def upload(
        self,
        data: Any,
        *,
        name: str | None = None,
        columns: Sequence[str] | None = None,
        progress: Progress | None = None,
        hashing: Progress | None = None,
        resumable: bool | None = None,
        wait: bool = True,
        delimiter: str | None = None,
        decimal: str | None = None,
        encoding: str | None = None,
        header: bool | None = None,
    ) -> Dataset:
        """Upload a path, binary file object, bytes or a table in memory; what is there is not sent.

        A table is a pandas or polars frame, an Arrow table, a dict of columns, or an array whose columns
        ``columns`` names; its index is left out and its types are kept.
        ``progress(sent, total)`` counts bytes, and so does ``hashing`` before that, while a file is read for
        its digest. From 64 MiB on, or where ``resumable`` is True, what was sent is kept when the connection
        is cut, and when this process ends: the same call, made again, goes on.
        Waits until the data set is ready, unless ``wait`` is False.
        Raises ``DatasetRejected`` with row, line and column where the content cannot be used.
        """
        source = source_of(data, name, columns, hashing).watched(progress)
        options = read_options(delimiter, decimal, encoding, header)
        way = way_of(source, options, resumable, self._client.url)
        dataset = self._bind(self._client.run(upload_flow(source, options, self._client.policy, way)))
        return dataset.wait() if wait else dataset

    def get(self, dataset_id: str) -> Dataset:
        request = flows.get(path_of(dataset_id))
        return self._bind(self._client.run(flows.document_of(request, self._client.policy)))

    def list(self, *, limit: int | None = None, order: str | None = None) -> Iterator[Dataset]:
        """Every data set, page after page (``limit`` a page), newest first unless ``order`` is ``asc``."""
        params = {"limit": limit, "order": order}
        return self._client.iterate(flows.pages(PATH, params, self._client.policy, self._bind))

    def delete(self, dataset_id: str) -> None:
        self._client.run(flows.nothing_of(flows.delete(path_of(dataset_id)), self._client.policy))


class AsyncDataset(DatasetData):
    """A data set of the service, for asyncio. See ``Dataset``."""

    __slots__ = ("_client", "_findings")

    def __init__(self, raw: Mapping[str, Any], client: AsyncClient) -> None:
        super().__init__(raw)
        self._client = client
        self._findings: tuple[Finding, ...] | None = None

    async def findings(self) -> tuple[Finding, ...]:
        """See ``Dataset.findings``; a method, for it asks the service. Notebooks show them from then on."""
        if self._findings is None:
            self._findings = findings_of(await self.profile())
        return self._findings

    def _findings_html(self) -> str:
        return findings_table(self._findings or ())

    async def refresh(self) -> AsyncDataset:
        """Read the data set again, in place."""
        request = flows.get(path_of(self.id))
        self._raw = await self._client.run(flows.document_of(request, self._client.policy))
        return self

    async def wait(self, timeout: float | None = None) -> AsyncDataset:
        """Wait until it is ready; ``timeout`` in seconds. Raises ``DatasetRejected``, ``WaitTimeout``."""
        self._raw = await self._client.run(wait_flow(self.id, self._client.policy, timeout))
        return self

    async def profile(self) -> Json:
        """Types, missing cells, quantiles, outliers, scale ratio and more, of every column."""
        request = flows.get(path_of(self.id, "profile"))
        return await self._client.run(flows.document_of(request, self._client.policy))

    async def preview(self, rows: int = 10) -> Json:
        """The first rows."""
        return await self._client.run(flows.document_of(preview_request(self.id, rows), self._client.policy))

    async def delete(self) -> None:
        """Delete it. Raises ``ConflictError`` while a job uses it."""
        await self._client.run(flows.nothing_of(flows.delete(path_of(self.id)), self._client.policy))


class AsyncDatasets:
    """``client.datasets`` of ``AsyncClient``. See ``Datasets``."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def _bind(self, raw: Json) -> AsyncDataset:
        return AsyncDataset(raw, self._client)

    async def upload(
        self,
        data: Any,
        *,
        name: str | None = None,
        columns: Sequence[str] | None = None,
        progress: Progress | None = None,
        hashing: Progress | None = None,
        resumable: bool | None = None,
        wait: bool = True,
        delimiter: str | None = None,
        decimal: str | None = None,
        encoding: str | None = None,
        header: bool | None = None,
    ) -> AsyncDataset:
        """See ``Datasets.upload``; ``progress`` is called in a thread."""
        source = (await self._client.in_thread(source_of, data, name, columns, hashing)).watched(progress)
        options = read_options(delimiter, decimal, encoding, header)
        way = way_of(source, options, resumable, self._client.url)
        raw = await self._client.run(upload_flow(source, options, self._client.policy, way))
        dataset = self._bind(raw)
        return await dataset.wait() if wait else dataset

    async def get(self, dataset_id: str) -> AsyncDataset:
        request = flows.get(path_of(dataset_id))
        return self._bind(await self._client.run(flows.document_of(request, self._client.policy)))

    def list(self, *, limit: int | None = None, order: str | None = None) -> AsyncIterator[AsyncDataset]:
        """See ``Datasets.list``."""
        params = {"limit": limit, "order": order}
        return self._client.iterate(flows.pages(PATH, params, self._client.policy, self._bind))

    async def delete(self, dataset_id: str) -> None:
        await self._client.run(flows.nothing_of(flows.delete(path_of(dataset_id)), self._client.policy))
