"""``/v1/jobs``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradkeel import display
from gradkeel.contract.config import target_text
from gradkeel.contract.states import TERMINAL, JobState, Verdict
from gradkeel.documents import Document, Field, flag, mapping, moment, optional, text, whole
from gradkeel.errors import GradkeelError, JobCancelled, JobFailed
from gradkeel.reports import Finding, Report
from gradkeel.resources.datasets import DatasetData
from gradkeel.resources.models import MODELS, AsyncModel, Model
from gradkeel.sansio import flows
from gradkeel.sansio.commands import Flow, Request
from gradkeel.sansio.configs import overlaid, patched_config
from gradkeel.sansio.flows import Event
from gradkeel.sansio.retry import RetryPolicy
from gradkeel.sinks import file_sink

if TYPE_CHECKING:
    from gradkeel.client import AsyncClient, Client

Json = dict[str, Any]
OnEvent = Callable[[Event], Any]
PATH = "/jobs"


class Progress(Document):
    """How far a job is. ``fraction`` lies in [0, 1]; ``eta_seconds`` is an estimate, or None."""

    phase = Field(text)
    epoch = Field(whole)
    epochs = Field(whole)
    step = Field(whole)
    fraction = Field(lambda value: float(value or 0.0))
    eta_seconds = Field(optional(float))


class JobData(Document):
    """What the service says about a job. ``config`` is the resolved config."""

    id = Field(text)
    kind = Field(text)
    state = Field(JobState)
    cancel_requested = Field(flag)
    config = Field(mapping)
    dataset_id = Field(text)
    model_id = Field(optional(text))
    progress = Field(optional(Progress))
    attempts = Field(whole)
    interruptions = Field(whole)
    retry_of = Field(optional(text))
    batch_id = Field(optional(text))
    priority = Field(whole)
    verdict = Field(optional(Verdict))
    metrics = Field(optional(mapping))
    error = Field(optional(mapping))
    labels = Field(mapping)
    created_at = Field(moment)
    started_at = Field(optional(moment))
    ended_at = Field(optional(moment))

    def _html(self) -> str:
        error = self.error or {}
        about = [
            ("target", target_text(self.config.get("target"))),
            ("data set", self.dataset_id),
            ("model", self.model_id),
            ("seconds", self.seconds),
            ("labels", self.labels or None),
            ("error", f"{error['code']}: {error['message']}" if error else None),
            ("where", error.get("where")),
        ]
        parts = [display.facts(about), display.metrics(self.metrics or {})]
        if self.progress is not None and not self.ended:
            where = [
                ("phase", self.progress.phase),
                ("epoch", f"{self.progress.epoch} of {self.progress.epochs}"),
            ]
            parts = [display.bar(self.progress.fraction), display.facts(where), *parts]
        return display.card(self._title(), (self.state, self.verdict), *parts)

    @property
    def ended(self) -> bool:
        """Whether it has succeeded, failed or been cancelled."""
        return self.state in TERMINAL

    @property
    def seconds(self) -> float | None:
        """From start to end, diagnosis and export included; None before the end or where it never started."""
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()


def path_of(job_id: str, *rest: str) -> str:
    return "/".join([PATH, flows.segment(job_id), *rest])


def create_document(
    data: DatasetData | str | None,
    target: str | Sequence[str] | None,
    config: Mapping[str, Any] | None,
    given: Mapping[str, Any],
) -> Json:
    """The body of ``POST /jobs``: the config with what was given beside it set on top."""
    dataset_id = data.id if isinstance(data, DatasetData) else data
    return overlaid(config, {"dataset_id": dataset_id, "target": as_document(target), **given})


def as_document(target: str | Sequence[str] | None) -> str | list[str] | None:
    """Target columns as the config holds them."""
    return target if target is None or isinstance(target, str) else list(target)


def model_to_go_on_from(source: JobData | Model | AsyncModel | str | None) -> str | None:
    """The id of a model, of a job's model, or as given. Raises ``GradkeelError`` for a job without one."""
    if isinstance(source, JobData):
        return model_id_of(source.raw)
    return source.id if isinstance(source, Model | AsyncModel) else source


def ended(document: Json) -> bool:
    return document["state"] in TERMINAL


def wait_flow(
    job_id: str, policy: RetryPolicy, timeout: float | None, on_event: OnEvent | None
) -> Flow[tuple[Json, str | None]]:
    """Wait for the end of a job (with ``on_event``, over its event stream): it, and the last request's id."""
    if on_event is not None:
        yield from flows.each(flows.events(path_of(job_id, "events"), policy, timeout=timeout), on_event)
    return (yield from flows.polled(path_of(job_id), ended, policy, timeout, f"The job {job_id}"))


def checked(job: JobData, request_id: str | None = None) -> None:
    """Raise ``JobFailed`` or ``JobCancelled`` for a job that ended so."""
    if job.state == JobState.CANCELLED:
        raise JobCancelled(f"The job {job.id} was cancelled", job=job, request_id=request_id)
    if job.state == JobState.FAILED:
        error = job.error or {}
        told = f"The job {job.id} failed ({error.get('code')}): {error.get('message')}"
        raise JobFailed(told, job=job, problem=failure_problem(error), request_id=request_id)


def failure_problem(error: Mapping[str, Any]) -> Json:
    """Why a job failed, in the form of the service's other problem documents."""
    code, detail = str(error.get("code")), str(error.get("message"))
    place = {"code": code, "detail": detail, **(error.get("where") or {})}
    kind = f"urn:gradkeel:problem:{code}"
    return {"type": kind, "title": "The job failed", "detail": detail, "errors": [place]}


def report_request(job_id: str, media_type: str) -> Request:
    return flows.get(path_of(job_id, "report"), headers={"Accept": media_type})


def list_params(
    state: str | None,
    label: str | None,
    created_after: datetime | str | None,
    batch: str | None,
    limit: int | None,
    order: str | None,
) -> dict[str, Any]:
    after = created_after.isoformat() if isinstance(created_after, datetime) else created_after
    asked = {"state": state, "label": label, "created_after": after, "batch_id": batch}
    return {**asked, "limit": limit, "order": order}


def remedy_of(job: Json, report: Report) -> Finding:
    """The finding whose patch is to be applied to a job.

    Raises:
        GradkeelError: the report proposes no change; says why.
    """
    remedy = report.remedy
    if remedy is not None and remedy.patch is not None:
        return remedy
    if not report.findings:
        raise GradkeelError(f"The report of {job['id']} is {report.verdict} and proposes no change")
    found = ", ".join(dict.fromkeys(finding.rule for finding in report.findings))
    raise GradkeelError(
        f"The report of {job['id']} proposes no change of the config that would mend what it found ({found})"
    )


def ended_or_refused(job: Json) -> Json:
    """The job, if it has a report. Raises ``GradkeelError`` before its end."""
    if not ended(job):
        raise GradkeelError(
            f"The job {job['id']} is {job['state']}: it has no report yet; wait for its end, then apply it"
        )
    return job


def apply_flow(
    job_id: str, given: Mapping[str, Any], policy: RetryPolicy, idempotency_key: str | None
) -> Flow[Json]:
    """Submit a job anew with the first patch of its report, and with what was given on top."""
    job = ended_or_refused((yield from flows.document_of(flows.get(path_of(job_id)), policy)))
    report = yield from flows.document_of(report_request(job_id, "application/json"), policy)
    patch = remedy_of(job, Report(report)).patch or {}
    document = overlaid(patched_config(job, patch), given)
    return (yield from flows.document_of(flows.post(PATH, document, key=idempotency_key), policy))


def model_id_of(document: Json) -> str:
    if document.get("model_id") is None:
        raise GradkeelError(f"The job {document['id']} is {document['state']} and has no model")
    return str(document["model_id"])


def model_flow(job_id: str, policy: RetryPolicy) -> Flow[Json]:
    """The model of a job. Raises ``GradkeelError`` where it has none."""
    job = yield from flows.document_of(flows.get(path_of(job_id)), policy)
    return (yield from flows.document_of(flows.get(f"{MODELS}/{flows.segment(model_id_of(job))}"), policy))


class Job(JobData):
    """A job of the service. ``wait``, ``refresh`` and ``cancel`` bring it up to date in place."""

    __slots__ = ("_client",)

    def __init__(self, raw: Mapping[str, Any], client: Client) -> None:
        super().__init__(raw)
        self._client = client

    def refresh(self) -> Job:
        """Read the job again, in place."""
        self._raw = self._client.run(flows.document_of(flows.get(path_of(self.id)), self._client.policy))
        return self

    def wait(
        self, timeout: float | None = None, *, on_event: OnEvent | None = None, check: bool = True
    ) -> Job:
        """Wait for the end; ``timeout`` in seconds, ``on_event`` is called with each ``Event``.

        Raises ``WaitTimeout`` (the job goes on); unless ``check`` is False, ``JobFailed``, ``JobCancelled``.
        """
        flow = wait_flow(self.id, self._client.policy, timeout, on_event)
        self._raw, request_id = self._client.run(flow)
        if check:
            checked(self, request_id)
        return self

    def stream(self, after: int | None = None) -> Iterator[Event]:
        """Every event up to the end (those after the id ``after``); a cut connection is taken up again."""
        return self._client.iterate(flows.events(path_of(self.id, "events"), self._client.policy, after))

    def report(self) -> Report:
        """The gradient-health report. Raises ``ConflictError`` before the end."""
        request = report_request(self.id, "application/json")
        return Report(self._client.run(flows.document_of(request, self._client.policy)))

    def learning_curve(self) -> list[Json]:
        """Losses of the training and validation part by epoch, a row each; see ``Report.learning_curve``."""
        return self.report().learning_curve

    def report_html(self) -> str:
        """The report as one self-contained page."""
        return self._client.run(flows.text_of(report_request(self.id, "text/html"), self._client.policy))

    def report_markdown(self) -> str:
        """The report as Markdown."""
        return self._client.run(flows.text_of(report_request(self.id, "text/markdown"), self._client.policy))

    def report_png(self) -> bytes:
        """The report as one picture, a PNG."""
        return self._client.run(flows.bytes_of(report_request(self.id, "image/png"), self._client.policy))

    def predictions(self) -> str:
        """The predictions of the test part, as CSV."""
        return self._client.run(
            flows.text_of(flows.get(path_of(self.id, "predictions")), self._client.policy)
        )

    def series(self, path: str | Path) -> Path:
        """Save the readings of every step as Parquet."""
        target = Path(path)
        with file_sink(target) as sink:
            self._client.run(flows.download(path_of(self.id, "series"), {}, self._client.policy, sink, None))
        return target

    def logs(self) -> str:
        """The log of the job."""
        return self._client.run(flows.text_of(flows.get(path_of(self.id, "logs")), self._client.policy))

    def model(self) -> Model:
        """The trained model; of a job that ended early, that of its last good checkpoint, if any."""
        return Model(self._client.run(model_flow(self.id, self._client.policy)), self._client)

    def cancel(self) -> Job:
        """Ask for cancellation; idempotent. Raises ``ConflictError`` once the job has ended otherwise."""
        request = flows.post(path_of(self.id, "cancel"))
        self._raw = self._client.run(flows.document_of(request, self._client.policy))
        return self

    def retry(self) -> Job:
        """Start the same job once more, as a new job."""
        request = flows.post(path_of(self.id, "retry"))
        return Job(self._client.run(flows.document_of(request, self._client.policy)), self._client)


class Jobs:
    """``client.jobs``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def _bind(self, raw: Json) -> Job:
        return Job(raw, self._client)

    def create(
        self,
        data: DatasetData | str | None = None,
        *,
        target: str | Sequence[str] | None = None,
        config: Mapping[str, Any] | None = None,
        warm_start: JobData | Model | AsyncModel | str | None = None,
        priority: int | None = None,
        idempotency_key: str | None = None,
        **blocks: Any,
    ) -> Job:
        """Submit a job on a data set (or its id). ``blocks`` are keys of the config: ``preset="fast"``.

        They stand over those of ``config``. ``priority``: -100 to 100 (0 unless given), of a project's jobs
        the higher runs first. ``warm_start``: a model, its id or its job; training begins with its weights
        and keeps its preparation. Raises ``UnprocessableError`` with a pointer to each fault.
        """
        begun = {"model_id": model_to_go_on_from(warm_start)}
        document = create_document(data, target, config, begun | blocks)
        request = flows.post(PATH, document, params={"priority": priority}, key=idempotency_key)
        return self._bind(self._client.run(flows.document_of(request, self._client.policy)))

    def validate(
        self,
        data: DatasetData | str | None = None,
        *,
        target: str | Sequence[str] | None = None,
        config: Mapping[str, Any] | None = None,
        **blocks: Any,
    ) -> Json:
        """The resolved config of what ``create`` would submit, without submitting it."""
        document = create_document(data, target, config, blocks)
        request = flows.post(PATH, document, params={"validate_only": True})
        return self._client.run(flows.document_of(request, self._client.policy))

    def apply(self, job: JobData | str, *, idempotency_key: str | None = None, **blocks: Any) -> Job:
        """Submit a job again with the first patch of its report: a warning's before a note's.

        ``report.remedy`` shows it beforehand. ``blocks`` are keys of the config that stand over it. Raises
        ``GradkeelError`` where the job has not ended or its report proposes no change.
        """
        name = job.id if isinstance(job, JobData) else job
        return self._bind(self._client.run(apply_flow(name, blocks, self._client.policy, idempotency_key)))

    def get(self, job_id: str) -> Job:
        request = flows.get(path_of(job_id))
        return self._bind(self._client.run(flows.document_of(request, self._client.policy)))

    def list(
        self,
        *,
        state: str | None = None,
        label: str | None = None,
        created_after: datetime | str | None = None,
        batch: str | None = None,
        limit: int | None = None,
        order: str | None = None,
    ) -> Iterator[Job]:
        """Every job, page after page (``limit`` a page); ``batch``: only those of the batch with this id."""
        params = list_params(state, label, created_after, batch, limit, order)
        return self._client.iterate(flows.pages(PATH, params, self._client.policy, self._bind))


class AsyncJob(JobData):
    """A job of the service, for asyncio. See ``Job``."""

    __slots__ = ("_client",)

    def __init__(self, raw: Mapping[str, Any], client: AsyncClient) -> None:
        super().__init__(raw)
        self._client = client

    async def refresh(self) -> AsyncJob:
        """Read the job again, in place."""
        request = flows.get(path_of(self.id))
        self._raw = await self._client.run(flows.document_of(request, self._client.policy))
        return self

    async def wait(
        self, timeout: float | None = None, *, on_event: OnEvent | None = None, check: bool = True
    ) -> AsyncJob:
        """See ``Job.wait``; ``on_event`` may be a coroutine function."""
        flow = wait_flow(self.id, self._client.policy, timeout, on_event)
        self._raw, request_id = await self._client.run(flow)
        if check:
            checked(self, request_id)
        return self

    def stream(self, after: int | None = None) -> AsyncIterator[Event]:
        """See ``Job.stream``."""
        return self._client.iterate(flows.events(path_of(self.id, "events"), self._client.policy, after))

    async def report(self) -> Report:
        """The gradient-health report. Raises ``ConflictError`` before the end."""
        request = report_request(self.id, "application/json")
        return Report(await self._client.run(flows.document_of(request, self._client.policy)))

    async def learning_curve(self) -> list[Json]:
        """See ``Job.learning_curve``."""
        return (await self.report()).learning_curve

    async def report_html(self) -> str:
        """The report as one self-contained page."""
        return await self._client.run(
            flows.text_of(report_request(self.id, "text/html"), self._client.policy)
        )

    async def report_markdown(self) -> str:
        """The report as Markdown."""
        return await self._client.run(
            flows.text_of(report_request(self.id, "text/markdown"), self._client.policy)
        )

    async def report_png(self) -> bytes:
        """The report as one picture, a PNG."""
        return await self._client.run(
            flows.bytes_of(report_request(self.id, "image/png"), self._client.policy)
        )

    async def predictions(self) -> str:
        """The predictions of the test part, as CSV."""
        request = flows.get(path_of(self.id, "predictions"))
        return await self._client.run(flows.text_of(request, self._client.policy))

    async def series(self, path: str | Path) -> Path:
        """Save the readings of every step as Parquet."""
        target = Path(path)
        with file_sink(target) as sink:
            flow = flows.download(path_of(self.id, "series"), {}, self._client.policy, sink, None)
            await self._client.run(flow)
        return target

    async def logs(self) -> str:
        """The log of the job."""
        return await self._client.run(flows.text_of(flows.get(path_of(self.id, "logs")), self._client.policy))

    async def model(self) -> AsyncModel:
        """The trained model; of a job that ended early, that of its last good checkpoint, if any."""
        return AsyncModel(await self._client.run(model_flow(self.id, self._client.policy)), self._client)

    async def cancel(self) -> AsyncJob:
        """Ask for cancellation; idempotent. Raises ``ConflictError`` once the job has ended otherwise."""
        request = flows.post(path_of(self.id, "cancel"))
        self._raw = await self._client.run(flows.document_of(request, self._client.policy))
        return self

    async def retry(self) -> AsyncJob:
        """Start the same job once more, as a new job."""
        request = flows.post(path_of(self.id, "retry"))
        return AsyncJob(await self._client.run(flows.document_of(request, self._client.policy)), self._client)


class AsyncJobs:
    """``client.jobs`` of ``AsyncClient``. See ``Jobs``."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def _bind(self, raw: Json) -> AsyncJob:
        return AsyncJob(raw, self._client)

    async def create(
        self,
        data: DatasetData | str | None = None,
        *,
        target: str | Sequence[str] | None = None,
        config: Mapping[str, Any] | None = None,
        warm_start: JobData | Model | AsyncModel | str | None = None,
        priority: int | None = None,
        idempotency_key: str | None = None,
        **blocks: Any,
    ) -> AsyncJob:
        """See ``Jobs.create``."""
        begun = {"model_id": model_to_go_on_from(warm_start)}
        document = create_document(data, target, config, begun | blocks)
        request = flows.post(PATH, document, params={"priority": priority}, key=idempotency_key)
        return self._bind(await self._client.run(flows.document_of(request, self._client.policy)))

    async def validate(
        self,
        data: DatasetData | str | None = None,
        *,
        target: str | Sequence[str] | None = None,
        config: Mapping[str, Any] | None = None,
        **blocks: Any,
    ) -> Json:
        """The resolved config of what ``create`` would submit, without submitting it."""
        document = create_document(data, target, config, blocks)
        request = flows.post(PATH, document, params={"validate_only": True})
        return await self._client.run(flows.document_of(request, self._client.policy))

    async def apply(
        self, job: JobData | str, *, idempotency_key: str | None = None, **blocks: Any
    ) -> AsyncJob:
        """See ``Jobs.apply``."""
        name = job.id if isinstance(job, JobData) else job
        flow = apply_flow(name, blocks, self._client.policy, idempotency_key)
        return self._bind(await self._client.run(flow))

    async def get(self, job_id: str) -> AsyncJob:
        request = flows.get(path_of(job_id))
        return self._bind(await self._client.run(flows.document_of(request, self._client.policy)))

    def list(
        self,
        *,
        state: str | None = None,
        label: str | None = None,
        created_after: datetime | str | None = None,
        batch: str | None = None,
        limit: int | None = None,
        order: str | None = None,
    ) -> AsyncIterator[AsyncJob]:
        """See ``Jobs.list``."""
        params = list_params(state, label, created_after, batch, limit, order)
        return self._client.iterate(flows.pages(PATH, params, self._client.policy, self._bind))
