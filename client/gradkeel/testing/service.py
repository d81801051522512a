"""The fake service: a transport for ``Client`` and ``AsyncClient`` with its state in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

import httpx2

from gradkeel.contract.errors import ConfigError, FieldError, StrictJSONError
from gradkeel.contract.ids import DATASET, JOB, MODEL, REQUEST, new_id
from gradkeel.contract.problems import MEDIA_TYPE, Problem
from gradkeel.contract.report import empty_report, preflight_report
from gradkeel.contract.resolve import resolve, to_json
from gradkeel.contract.states import TERMINAL, JobKind
from gradkeel.contract.strict_json import loads
from gradkeel.testing.outcomes import NOTHING_TRAINED, JobOutcome
from gradkeel.testing.tables import (
    BadTable,
    Columns,
    Constant,
    best_constant,
    column_documents,
    read_table,
    targets_of,
)

Json = dict[str, Any]
T = TypeVar("T")
PAGE = 50

NO_PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
)
"""A PNG of one pixel."""


@dataclass(frozen=True)
class Seen:
    """One request as it arrived. ``document`` is its JSON body, None where it held something else."""

    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    content: bytes = field(repr=False)

    @property
    def document(self) -> Any:
        try:
            return loads(self.content)
        except StrictJSONError:
            return None


class Refused(Exception):
    """Ends the handling of a request with a problem document."""

    def __init__(self, code: str, detail: str, *errors: FieldError, headers: Mapping[str, str] | None = None):
        super().__init__(detail)
        self.code, self.detail, self.errors, self.headers = code, detail, errors, dict(headers or {})


@dataclass
class _Job:
    document: Json
    outcome: JobOutcome
    events: list[Json] = field(default_factory=list)


@dataclass
class _Model:
    document: Json
    outcome: JobOutcome
    constant: Constant


@dataclass
class _Fault:
    """What the next request whose line matches ``on`` gets in place of an answer."""

    on: str
    raised: type[httpx2.TransportError] | None
    refusal: Refused | None


Reply: TypeAlias = tuple[int, Any, dict[str, str]]


class FakeService(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """A service in memory. It trains nothing. Pass it as ``transport`` to one client or to many.

    ``requests`` holds what arrived. ``next_job`` says how jobs end, ``refuse`` and ``cut`` make requests
    fail, ``reject_next_upload`` makes a data set bad.
    """

    url = "http://gradkeel.testing"

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self._lock = threading.RLock()
        self._datasets: dict[str, Json] = {}
        self._tables: dict[str, Columns] = {}
        self._jobs: dict[str, _Job] = {}
        self._models: dict[str, _Model] = {}
        self._replies: dict[str, Reply] = {}
        self._outcomes: deque[JobOutcome] = deque()
        self._faults: deque[_Fault] = deque()
        self._rejections: deque[FieldError] = deque()

    # ------------------------------------------------------------------------------ what is to happen

    def next_job(self, **outcome: Any) -> None:
        """How the next job ends that has not been told yet: the fields of ``JobOutcome``."""
        self._outcomes.append(JobOutcome(**outcome))

    def release(self, job_id: str) -> None:
        """Let a held job come to its end."""
        with self._lock:
            self._end(self._job(job_id))

    def refuse(
        self,
        code: str,
        detail: str = NOTHING_TRAINED,
        *,
        times: int = 1,
        on: str = "",
        retry_after: str | None = None,
    ) -> None:
        """Answer the next ``times`` requests with a problem (a code of docs/errors.md).

        ``on`` is a regular expression over the request line, ``"POST /v1/jobs"`` say. ``retry_after``
        becomes the header.
        """
        headers = {"Retry-After": retry_after} if retry_after is not None else {}
        self._faults += [_Fault(on, None, Refused(code, detail, headers=headers)) for _ in range(times)]

    def cut(self, *, times: int = 1, on: str = "", silent: bool = False) -> None:
        """Cut the connection of the next ``times`` requests; ``silent``: let them time out."""
        raised = httpx2.ReadTimeout if silent else httpx2.RemoteProtocolError
        self._faults += [_Fault(on, raised, None) for _ in range(times)]

    def reject_next_upload(
        self, detail: str, *, line: int | None = None, row: int | None = None, column: str | None = None
    ) -> None:
        """Make the next data set a rejected one, with the fault at this place."""
        self._rejections.append(FieldError("", "told", detail, column=column, row=row, line=line))

    # --------------------------------------------------------------------------------- the transport

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request of a blocking client."""
        return self._answer(request, request.read())

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request of an asyncio client."""
        return self._answer(request, await request.aread())

    def _answer(self, request: httpx2.Request, content: bytes) -> httpx2.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        seen = Seen(request.method, request.url.path, dict(request.url.params), headers, content)
        with self._lock:
            self.requests.append(seen)
            request_id = new_id(REQUEST)
            status, body, extra = self._reply(seen, request_id)
        kind = {"Content-Type": "application/json", "X-Request-Id": request_id}
        if isinstance(body, dict | list):
            body = json.dumps(body, allow_nan=False).encode()
        shown = b"" if request.method == "HEAD" else body or b""
        return httpx2.Response(status, headers={**kind, **extra}, content=shown)

    def _reply(self, seen: Seen, request_id: str) -> Reply:
        try:
            self._play_fault(seen)
            return self._once(seen)
        except Refused as refused:
            problem = Problem(refused.code, refused.detail, refused.errors, seen.path, request_id)
            return problem.status, problem.to_json(), {"Content-Type": MEDIA_TYPE, **refused.headers}

    def _play_fault(self, seen: Seen) -> None:
        fault = next((f for f in self._faults if re.search(f.on, f"{seen.method} {seen.path}")), None)
        if fault is None:
            return
        self._faults.remove(fault)
        if fault.raised is not None:
            raise fault.raised("the connection was cut, as gradkeel.testing was told")
        if fault.refusal is not None:
            raise fault.refusal

    def _once(self, seen: Seen) -> Reply:
        """A POST under an ``Idempotency-Key`` does its work once."""
        key = seen.headers.get("idempotency-key")
        if key in self._replies:
            status, body, headers = self._replies[key]
            return status, body, {**headers, "Idempotent-Replayed": "true"}
        reply = self._route(seen)
        if key is not None:
            self._replies[key] = reply
        return reply

    def _route(self, seen: Seen) -> Reply:
        method = "GET" if seen.method == "HEAD" else seen.method
        for asked, pattern, function in ROUTES:
            match = re.fullmatch(pattern, seen.path)
            if asked == method and match:
                return function(self, seen, *match.groups())
        raise Refused("not_found", f"gradkeel.testing does not play {seen.method} {seen.path}")

    # ------------------------------------------------------------------------------------- data sets

    def _upload(self, seen: Seen) -> Reply:
        dataset_id, error, columns = new_id(DATASET), None, {}
        try:
            if self._rejections:
                raise BadTable(self._rejections.popleft())
            columns = read_table(seen.content)
        except BadTable as fault:
            error = Problem("bad_data", fault.error.detail, [fault.error]).to_json()
        document = {
            "id": dataset_id,
            "name": seen.params.get("name", "data"),
            "sha256": hashlib.sha256(seen.content).hexdigest(),
            "bytes": len(seen.content),
            "state": "ready" if error is None else "rejected",
            "rows": None if error else len(next(iter(columns.values()), [])),
            "columns": column_documents(columns),
            "error": error,
            "created_at": _now(),
        }
        self._datasets[dataset_id], self._tables[dataset_id] = document, columns
        return 201, document, {"Location": f"/v1/datasets/{dataset_id}"}

    def _dataset(self, dataset_id: str) -> Json:
        return _found(self._datasets, dataset_id, "data set")

    def _by_digest(self, seen: Seen, sha256: str) -> Reply:
        for document in reversed(self._datasets.values()):
            if document["sha256"] == sha256:
                return 200, document, {}
        raise Refused("not_found", "no data set has this digest")

    def _show_dataset(self, seen: Seen, dataset_id: str) -> Reply:
        return 200, self._dataset(dataset_id), {}

    def _delete_dataset(self, seen: Seen, dataset_id: str) -> Reply:
        used = [job for job in self._jobs.values() if job.document["dataset_id"] == dataset_id]
        if any(job.document["state"] not in TERMINAL for job in used):
            raise Refused("in_use", "a job still uses the data set")
        del self._datasets[self._dataset(dataset_id)["id"]]
        return 204, None, {}

    def _profile(self, seen: Seen, dataset_id: str) -> Reply:
        document = self._dataset(dataset_id)
        return 200, {"rows": document["rows"], "columns": document["columns"], "findings": []}, {}

    def _preview(self, seen: Seen, dataset_id: str) -> Reply:
        self._dataset(dataset_id)
        columns, most = self._tables[dataset_id], int(seen.params.get("rows", 10))
        rows = [list(row) for row in zip(*columns.values(), strict=True)][:most]
        plain = json.loads(json.dumps(rows, default=str))
        return 200, {"columns": list(columns), "rows": plain, "lines": [None] * len(rows)}, {}

    # ------------------------------------------------------------------------------------------ jobs

    def _create_job(self, seen: Seen) -> Reply:
        return self._create(seen, JobKind.TRAIN)

    def _create_preflight(self, seen: Seen) -> Reply:
        return self._create(seen, JobKind.PREFLIGHT)

    def _create(self, seen: Seen, kind: str) -> Reply:
        submitted = self._submitted(seen)
        if kind == JobKind.PREFLIGHT and submitted.get("model_id") is not None:
            detail = "a preflight looks at a training from fresh weights; leave model_id out"
            raise Refused("invalid", detail, _at("/model_id", detail))
        config = self._checked(submitted)
        if seen.params.get("validate_only") == "true":
            return 200, config, {}
        return self._queue(submitted, config, kind, None)

    def _queue(self, submitted: Json, config: Json, kind: str, retry_of: str | None) -> Reply:
        outcome = self._outcomes.popleft() if self._outcomes else JobOutcome()
        job_id = new_id(JOB)
        document = {
            "id": job_id,
            "kind": str(kind),
            "state": "queued",
            "cancel_requested": False,
            "submitted": submitted,
            "config": config,
            "dataset_id": config["dataset_id"],
            "batch_id": None,
            "priority": 0,
            "model_id": None,
            "progress": None,
            "attempts": 0,
            "interruptions": 0,
            "retry_of": retry_of,
            "verdict": None,
            "metrics": None,
            "error": None,
            "labels": config["labels"],
            "created_at": _now(),
            "started_at": None,
            "ended_at": None,
        }
        job = self._jobs[job_id] = _Job(document, outcome)
        _note(job, "state", {"state": "queued"})
        return 202, dict(document), {"Location": f"/v1/jobs/{job_id}", "Retry-After": "0"}

    def _submitted(self, seen: Seen) -> Json:
        try:
            document = loads(seen.content)
        except StrictJSONError as error:
            raise Refused("bad_json", error.detail) from error
        if not isinstance(document, dict):
            raise Refused("invalid", "the config must be a JSON object")
        return document

    def _checked(self, submitted: Json) -> Json:
        """The resolved config, checked by the service's own rules as far as they need no data."""
        try:
            config: Json = to_json(resolve(submitted))
        except ConfigError as error:
            raise Refused("invalid", error.errors[0].detail, *error.errors) from error
        if config["dataset_id"] is None:
            raise Refused("invalid", "dataset_id is needed", _at("/dataset_id", "dataset_id is needed"))
        dataset = self._dataset(config["dataset_id"])
        if dataset["state"] == "rejected":
            raise Refused("dataset_rejected", f"the data set {dataset['id']} was rejected")
        if config["model_id"] is not None:
            self._model(config["model_id"])
        self._check_target(config)
        return config

    def _check_target(self, config: Json) -> None:
        for target in targets_of(config):
            self._check_column(config["dataset_id"], target)

    def _check_column(self, dataset_id: str, target: str) -> None:
        cells = self._tables[dataset_id].get(target)
        if cells is None:
            detail = f"there is no column {target!r}"
            raise Refused("invalid", detail, _at("/target", detail))
        if len({cell for cell in cells if cell is not None}) < 2:
            detail = f"the target {target!r} has one value in every row"
            raise Refused("invalid", detail, _at("/target", detail))

    def _job(self, job_id: str) -> _Job:
        return _found(self._jobs, job_id, "job")

    def _show_job(self, seen: Seen, job_id: str) -> Reply:
        job = self._job(job_id)
        self._advance(job)
        crowded = job.document["state"] not in TERMINAL
        return 200, dict(job.document), {"Retry-After": "1"} if crowded else {}

    def _advance(self, job: _Job) -> None:
        """A job runs once it is asked about; one that is not held has then ended too."""
        if job.document["state"] == "queued":
            job.document |= {"state": "running", "started_at": _now(), "attempts": 1}
            _note(job, "state", {"state": "running", "attempts": 1})
            for epoch in range(job.outcome.epochs):
                fraction = (epoch + 1) / job.outcome.epochs
                progress = {"phase": "train", "epoch": epoch, "epochs": job.outcome.epochs}
                job.document["progress"] = progress | {"fraction": fraction, "eta_seconds": None}
                _note(job, "progress", job.document["progress"])
        if not job.outcome.held:
            self._end(job)

    def _end(self, job: _Job, state: str | None = None) -> None:
        document, outcome = job.document, job.outcome
        if document["state"] in TERMINAL:
            return
        state = state or outcome.state
        document |= {"state": state, "started_at": document["started_at"] or _now(), "ended_at": _now()}
        trained = document["kind"] == JobKind.TRAIN
        document["verdict"] = outcome.shown_verdict if trained and state == outcome.state else None
        if state == "failed":
            error = {"code": outcome.code, "message": outcome.message, "where": outcome.where}
            document["error"] = error
        if state == "succeeded" and trained:
            self._make_model(job)
        kept = {name: document[name] for name in ("state", "verdict", "model_id", "error", "attempts")}
        _note(job, "end", kept)

    def _make_model(self, job: _Job) -> None:
        config, model_id = job.document["config"], new_id(MODEL)
        targets = targets_of(config)
        table = self._tables[config["dataset_id"]]
        guess = best_constant(table, config)
        metrics = job.outcome.metrics
        if metrics is None:
            parts = {"validation": guess.metrics, "test": guess.metrics}
            metrics = {**parts, "baselines": {"constant": guess.metrics}}
        job.document |= {"model_id": model_id, "metrics": dict(metrics)}
        bundle = job.outcome.bundle
        document = {
            "id": model_id,
            "job_id": job.document["id"],
            "target": ", ".join(targets),
            "task": guess.task,
            "columns": [
                {"name": column["name"], "type": column["type"], "required": not column["missing"]}
                for column in column_documents(table)
                if column["name"] not in targets
            ],
            "classes": list(guess.shares) or None,
            "metrics": dict(metrics),
            "verdict": job.document["verdict"],
            "digests": {"bundle": f"sha256:{hashlib.sha256(bundle).hexdigest()}"} if bundle else {},
            "created_at": _now(),
        }
        self._models[model_id] = _Model(document, job.outcome, guess)

    def _cancel(self, seen: Seen, job_id: str) -> Reply:
        job = self._job(job_id)
        state = job.document["state"]
        if state in TERMINAL and state != "cancelled":
            raise Refused("conflict", f"the job has {state} already")
        job.document["cancel_requested"] = True
        self._end(job, "cancelled")
        return 202, dict(job.document), {}

    def _retry(self, seen: Seen, job_id: str) -> Reply:
        job = self._ended(job_id)
        document = job.document
        return self._queue(document["submitted"], document["config"], document["kind"], job_id)

    def _ended(self, job_id: str) -> _Job:
        job = self._job(job_id)
        if job.document["state"] not in TERMINAL:
            raise Refused("not_ended", f"the job is {job.document['state']}")
        return job

    def _events(self, seen: Seen, job_id: str) -> Reply:
        job = self._job(job_id)
        self._advance(job)
        after = int(seen.headers.get("last-event-id") or seen.params.get("after") or 0)
        fresh = [event for event in job.events if event["id"] > after]
        if "text/event-stream" not in seen.headers.get("accept", ""):
            return 200, {"data": fresh, "has_more": False, "next_cursor": None}, {}
        told = "".join(
            f"id: {e['id']}\nevent: {e['event']}\ndata: {json.dumps(e['data'])}\n\n" for e in fresh
        )
        return 200, (told or ": heartbeat\n\n").encode(), {"Content-Type": "text/event-stream"}

    def _report(self, seen: Seen, job_id: str) -> Reply:
        job = self._ended(job_id)
        report = empty_report(verdict=job.document["verdict"], summary=NOTHING_TRAINED)
        if job.document["kind"] == JobKind.PREFLIGHT:
            report = preflight_report(job.outcome.preflight, None, summary=NOTHING_TRAINED)
        report["findings"] = [dict(finding) for finding in job.outcome.findings]
        if "text/markdown" in seen.headers.get("accept", ""):
            return 200, f"# {NOTHING_TRAINED}\n".encode(), {"Content-Type": "text/markdown"}
        if "image/png" in seen.headers.get("accept", ""):
            return 200, NO_PICTURE, {"Content-Type": "image/png"}
        if "text/html" in seen.headers.get("accept", ""):
            page = f"<!doctype html><html><title>{NOTHING_TRAINED}</title><p>{NOTHING_TRAINED}</p></html>"
            return 200, page.encode(), {"Content-Type": "text/html"}
        return 200, report, {}

    def _predictions(self, seen: Seen, job_id: str) -> Reply:
        self._ended(job_id)
        return 200, b"row,actual,prediction\n", {"Content-Type": "text/csv"}

    def _logs(self, seen: Seen, job_id: str) -> Reply:
        line = {"message": NOTHING_TRAINED, "job_id": self._ended(job_id).document["id"]}
        return 200, json.dumps(line).encode() + b"\n", {"Content-Type": "application/jsonl"}

    # ---------------------------------------------------------------------------------------- models

    def _model(self, model_id: str) -> _Model:
        return _found(self._models, model_id, "model")

    def _show_model(self, seen: Seen, model_id: str) -> Reply:
        return 200, self._model(model_id).document, {}

    def _delete_model(self, seen: Seen, model_id: str) -> Reply:
        del self._models[self._model(model_id).document["id"]]
        return 204, None, {}

    def _artifact(self, seen: Seen, model_id: str) -> Reply:
        bundle = self._model(model_id).outcome.bundle
        if bundle is None or seen.params.get("format", "bundle") != "bundle":
            raise Refused("not_found", f"{NOTHING_TRAINED}: there is no file, unless bundle= gave one")
        return 200, bundle, {"Content-Type": "application/octet-stream"}

    def _predict(self, seen: Seen, model_id: str) -> Reply:
        model = self._model(model_id)
        rows = _rows(seen)
        self._check_columns(model, rows, seen.params.get("policy", "impute"))
        found = [_one(model, row) for row in rows]
        document = {"model_id": model_id, "predictions": [value for value, _ in found]}
        if model.constant.shares:
            document["probabilities"] = [shares for _, shares in found]
        return 200, document | {"warnings": [NOTHING_TRAINED]}, {}

    def _check_columns(self, model: _Model, rows: list[Json], policy: str) -> None:
        for column in model.document["columns"] if policy == "strict" else ():
            if any(column["name"] not in row for row in rows):
                detail = f"the column {column['name']!r} is missing"
                place = FieldError(f"/{column['name']}", "missing_column", detail, column=column["name"])
                raise Refused("invalid", detail, place)

    # ----------------------------------------------------------------------------------------- lists

    def _list(self, seen: Seen, kind: str) -> Reply:
        documents = {
            "datasets": lambda: list(self._datasets.values()),
            "jobs": lambda: [job.document for job in self._jobs.values()],
            "models": lambda: [model.document for model in self._models.values()],
        }[kind]()
        chosen = [document for document in documents if _wanted(document, seen.params)]
        if seen.params.get("order") != "asc":
            chosen.reverse()
        return 200, _page(chosen, seen.params), {}


def _at(pointer: str, detail: str) -> FieldError:
    return FieldError(pointer, "told", detail)


def _found(things: Mapping[str, T], key: str, kind: str) -> T:
    if key not in things:
        raise Refused("not_found", f"there is no {kind} {key!r}")
    return things[key]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _note(job: _Job, name: str, data: Json) -> None:
    number = len(job.events) + 1
    told = {"job_id": job.document["id"], "fence": 1, **data}
    job.events.append({"id": number, "event": name, "data": told})


def _wanted(document: Json, params: Mapping[str, str]) -> bool:
    if params.get("state") not in (None, document.get("state")):
        return False
    key, _, value = params.get("label", "").partition("=")
    labels = document.get("labels") or {}
    return not key or (key in labels and value in ("", labels[key]))


def _page(documents: list[Json], params: Mapping[str, str]) -> Json:
    ids = [document["id"] for document in documents]
    start = ids.index(params["after"]) + 1 if params.get("after") in ids else 0
    page = documents[start : start + int(params.get("limit", PAGE))]
    more = start + len(page) < len(documents)
    return {"data": page, "has_more": more, "next_cursor": page[-1]["id"] if more else None}


def _rows(seen: Seen) -> list[Json]:
    document = seen.document
    columns: Columns
    if isinstance(document, dict) and "records" in document:
        return list(document["records"])
    columns = document["columns"] if isinstance(document, dict) else read_table(seen.content)
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _one(model: _Model, row: Json) -> tuple[Any, dict[str, float]]:
    """The prediction of one row and, for classes, their probabilities."""
    told = model.outcome.predict(row) if model.outcome.predict else None
    if isinstance(told, Mapping) and model.constant.shares:
        shares = {name: float(told.get(name, 0.0)) for name in model.constant.shares}
        return max(shares, key=lambda name: shares[name]), shares
    if told is None:
        return model.constant.value, model.constant.shares
    return told, {name: float(name == told) for name in model.constant.shares}


Route = Callable[..., Reply]
S = FakeService
ROUTES: tuple[tuple[str, str, Route], ...] = (
    ("POST", "/v1/datasets", S._upload),
    ("GET", "/v1/(datasets|jobs|models)", S._list),
    ("GET", "/v1/datasets/by-digest/([0-9a-f]+)", S._by_digest),
    ("GET", "/v1/datasets/([^/]+)", S._show_dataset),
    ("DELETE", "/v1/datasets/([^/]+)", S._delete_dataset),
    ("GET", "/v1/datasets/([^/]+)/profile", S._profile),
    ("GET", "/v1/datasets/([^/]+)/preview", S._preview),
    ("POST", "/v1/jobs", S._create_job),
    ("POST", "/v1/preflights", S._create_preflight),
    ("GET", "/v1/jobs/([^/]+)", S._show_job),
    ("POST", "/v1/jobs/([^/]+)/cancel", S._cancel),
    ("POST", "/v1/jobs/([^/]+)/retry", S._retry),
    ("GET", "/v1/jobs/([^/]+)/events", S._events),
    ("GET", "/v1/jobs/([^/]+)/report", S._report),
    ("GET", "/v1/jobs/([^/]+)/predictions", S._predictions),
    ("GET", "/v1/jobs/([^/]+)/logs", S._logs),
    ("GET", "/v1/models/([^/]+)", S._show_model),
    ("DELETE", "/v1/models/([^/]+)", S._delete_model),
    ("GET", "/v1/models/([^/]+)/artifact", S._artifact),
    ("POST", "/v1/models/([^/]+)/predict", S._predict),
)
