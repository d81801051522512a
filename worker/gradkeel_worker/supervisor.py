"""One attempt at a job, from its claim to the one update that ends it.

The child does the work; this side holds the lease, passes on events, stops the child, stores what it left and
says how it ended. Whatever happens to the child, the job ends with a report or goes back to the queue.
"""

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gradkeel.contract.report import empty_report, preflight_without_result
from gradkeel.contract.states import JobErrorCode, JobKind, JobState
from gradkeel_store.errors import NotFound, ObjectError, StoreError
from gradkeel_store.records import DatasetRow, JobRow, timestamp
from gradkeel_worker import failures, outcome
from gradkeel_worker.background import Background
from gradkeel_worker.checkpoints import Checkpoints
from gradkeel_worker.holdings import Holding
from gradkeel_worker.joblog import JobLog
from gradkeel_worker.kept import UNFINISHED, with_model_told
from gradkeel_worker.limits import Bounds
from gradkeel_worker.outcome import Outcome
from gradkeel_worker.parts import Parts
from gradkeel_worker.processes import CannotStart, Child
from gradkeel_worker.signals import Stop
from gradkeel_worker.storing import persist
from gradkeel_worker.watch import Ending, Watch

PROGRESS_SECONDS = 1.0
REPORT_SECONDS = {True: 0.4, False: 60.0}
"""For the last good model of a job whose child is gone; less where it was cancelled and somebody waits."""
LONGEST_REPORT_SECONDS = 60.0
PROGRESS_KEYS = ("phase", "epoch", "epochs", "step", "fraction", "eta_seconds")
STATES = {"succeeded": JobState.SUCCEEDED, "cancelled": JobState.CANCELLED}
FILE_MB = 1 << 15

Json = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class End:
    """How the job is to end: in a state with its error, or back in the queue; `code` is for the last try."""

    state: JobState | None
    error: Json | None = None
    code: str = JobErrorCode.WORKER_LOST

    @property
    def stopped(self) -> str | None:
        """cancelled or deadline, where that is what ended the job."""
        if self.state is JobState.CANCELLED:
            return JobState.CANCELLED.value
        late = (self.error or {}).get("code") == JobErrorCode.DEADLINE
        return JobErrorCode.DEADLINE.value if late else None


def supervise(parts: Parts, job: JobRow) -> None:
    """Run a claimed job to its end. Raises nothing that concerns one job alone."""
    work = parts.folder / f"{job.id}-{job.fence}"
    log = parts.log.bind(job_id=job.id, fence=job.fence, attempt=job.attempt)
    try:
        holding = Holding(job.id, job.fence, lambda: parts.records.heartbeat_job(job.id, job.fence))
    except OSError as error:
        _wait_for_room(parts, job, error, log)
        return
    parts.holdings.add(holding)
    try:
        work.mkdir(parents=True)
        if parts.stopping.is_set():
            holding.stop.request(Stop.RELEASED)
        attempt = _Attempt(parts, job, work, holding, log)
        with contextlib.closing(attempt.background):
            attempt.run()
    except StoreError as error:
        log.warning("the attempt is given up; its lease runs out", error=str(error))
    except CannotStart as error:
        _wait_for_room(parts, job, error, log)
    except Exception:
        log.exception("the attempt failed in the worker itself")
        with contextlib.suppress(StoreError):
            parts.records.requeue_lost(
                job.id, job.fence, code=JobErrorCode.INTERNAL, message="the worker failed"
            )
    finally:
        parts.holdings.remove(holding)
        parts.events.close_run(job.id)
        shutil.rmtree(work, ignore_errors=True)


def _wait_for_room(parts: Parts, job: JobRow, error: Exception, log: Any) -> None:
    """Give the job back, attempt included: it is not to blame that nothing can be started here."""
    log.error("this machine has no room for the job", error=str(error))
    parts.stopping.wait(parts.settings.poll_seconds)
    with contextlib.suppress(StoreError):
        parts.records.release_job(job.id, job.fence, parts.events.numbered(job.id, job.fence))


class _Attempt:
    def __init__(self, parts: Parts, job: JobRow, work: Path, holding: Holding, log: Any) -> None:
        self.parts, self.job, self.work, self.holding, self.log = parts, job, work, holding, log
        self.joblog = JobLog(work)
        self.checkpoints = Checkpoints(parts, job, work, log)
        self.background = Background(f"notes {job.id}", log)
        self._watch: Watch | None = None
        self._config: Json | None = None
        self._progress: Json | None = None
        self._progress_at = 0.0

    def run(self) -> None:
        self.joblog.add(
            "the job was claimed", job_id=self.job.id, attempt=self.job.attempt, worker=self.parts.owner
        )
        try:
            dataset = self._fetch_table()
            earlier = self._fetch_earlier()
            if not self._persist(self.checkpoints.fetch) and self.job.checkpoint is not None:
                self.joblog.add("the checkpoint is set aside: it is missing or damaged")
        except (NotFound, ObjectError) as error:
            self._end(
                End(JobState.FAILED, _error(JobErrorCode.BAD_DATA, f"what it needs cannot be read: {error}"))
            )
            return
        self._write_job(self._description(dataset, earlier))
        self._finish(self._train())

    # Before

    def _fetch_table(self) -> DatasetRow:
        """The data set's table, its digest verified, in the work folder."""
        dataset = self._persist(lambda: self.parts.records.get_dataset(self.job.project, self.job.dataset_id))
        digest = dataset.parquet_digest
        if digest is None:
            raise NotFound(f"the data set {dataset.id} has no table")
        self._persist(lambda: self.parts.objects.fetch(digest, self.work / outcome.TABLE))
        return dataset

    def _fetch_earlier(self) -> Json | None:
        """The model that the job goes on from, in the work folder; for the report, which it is."""
        model_id = self.job.config.get("model_id")
        if model_id is None:
            return None
        model = self._persist(lambda: self.parts.records.get_model(self.job.project, model_id))
        digest = model.digests["bundle"].removeprefix("sha256:")
        self._persist(lambda: self.parts.objects.fetch(digest, self.work / outcome.EARLIER))
        return {"model_id": model.id, "digest": model.digests["bundle"], "preparation": "kept"}

    def _description(self, dataset: DatasetRow, earlier: Json | None) -> Json:
        job = self.job
        return {
            "job_id": job.id,
            "title": dataset.name,
            "submitted": job.submitted,
            "max_parameters": self.parts.settings.max_parameters,
            "profile": dataset.profile,
            "memory_mb": self._bounds().memory_mb,
            "in_memory_mb": self.parts.settings.job_in_memory_mb,
            "threads": max(1, len(os.sched_getaffinity(0)) // self.parts.settings.worker_concurrency),
            "dataset": {
                "id": dataset.id,
                "sha256": dataset.sha256,
                "name": dataset.name,
                "columns": [column["name"] for column in dataset.columns or ()],
            },
            "created_at": timestamp(job.created_at),
            "checkpoint_seconds": self.parts.settings.checkpoint_seconds,
            "provenance": {
                "dataset": {"id": dataset.id, "sha256": dataset.sha256},
                "attempts": job.attempt,
                "interruptions": job.interruptions,
                "warm_start": earlier,
            },
        }

    def _write_job(self, document: Json) -> None:
        outcome.write_text(self.work / outcome.JOB, json.dumps(document))

    def _bounds(self) -> Bounds:
        asked = (self.job.config.get("budget") or {}).get("max_memory_mb")
        allowed = self.parts.settings.job_memory_mb
        return Bounds(memory_mb=min(allowed, asked or allowed), file_mb=FILE_MB)

    # While the child runs

    def _train(self) -> Ending:
        child = Child(self.job.kind, self.work, self._bounds())
        self.log.info("training began", pid=child.pid, kind=self.job.kind)
        self.joblog.add("the training process began", pid=child.pid)
        settings = self.parts.settings
        self._watch = Watch(
            child,
            self.holding,
            settings.job_max_seconds,
            settings.self_kill_seconds,
            self._take,
            self._flush_progress,
        )
        ending = self._watch.until_end()
        self.log.info("training ended", exit_code=ending.exit_code, stopped=ending.stopped)
        self.joblog.add("the training process ended", exit_code=ending.exit_code)
        return ending

    def _take(self, message: Json) -> None:
        """One event of the engine: to its place, and to those who listen."""
        name, data = message["event"], message["data"]
        if name == "resolved":
            self._config = data["config"]
            self.background.ask("config", self._tell_config)
            return
        if name == "checkpoint":
            self.background.ask("checkpoint", self.checkpoints.store)
            return
        if name == "resumed":
            name, data = "log", self._resumed(data)
        if name == "progress":
            self._progress = {key: data.get(key) for key in PROGRESS_KEYS}
        if name == "log":
            self.joblog.add(str(data.get("message", "")), source="engine", **_without(data, "message"))
        self.parts.events.append(self.job.id, name, data | {"fence": self.job.fence})

    def _resumed(self, data: Json) -> Json:
        """What the log says of it. The time of earlier attempts counts towards the deadline."""
        if self._watch is not None:
            self._watch.seconds -= data["seconds"]
        self.log.info("training resumed", **data)
        return {"message": f"resumed from the checkpoint at step {data['step']}"} | data

    @property
    def _told(self) -> int:
        """How many events were numbered in this run; a reader of fewer then knows that some are missing."""
        return self.parts.events.numbered(self.job.id, self.job.fence)

    def _flush_progress(self) -> None:
        """The latest progress to the row, once a second at most. It is a sign of life as well."""
        now = time.monotonic()
        if self._progress is None or now - self._progress_at < PROGRESS_SECONDS:
            return
        progress, self._progress, self._progress_at = self._progress, None, now
        self.background.ask("progress", lambda: self._tell_progress(progress))

    def _tell_progress(self, progress: Json) -> None:
        begun = time.monotonic()
        if self.parts.records.heartbeat_job(self.job.id, self.job.fence, progress):
            self.holding.last_good = begun
        else:
            self.holding.stop.request(Stop.LOST)

    def _tell_config(self) -> None:
        """The config as decided on the data, to the row."""
        if self._config is not None:
            self.parts.records.set_config(self.job.id, self.job.fence, self._config)
            self._config = None

    # After

    def _finish(self, ending: Ending) -> None:
        if ending.stopped is Stop.LOST:
            self.log.warning("the lease is lost; the attempt counts for nothing")
            return
        self._persist(self._tell_config)
        found = Outcome.read(self.work)
        if (found is None or found.status == "released") and ending.stopped is Stop.RELEASED:
            self.checkpoints.store()
            released = self._persist(
                lambda: self.parts.records.release_job(self.job.id, self.job.fence, self._told)
            )
            self.log.info("the job was given back", done=released)
            return
        self._end(_judge(found, ending), found)

    def _end(self, end: End, found: Outcome | None = None) -> None:
        """Store what there is, then end the job, or put it back."""
        last_try = self.job.attempt >= self.job.max_attempts
        if end.state is None and not last_try:
            self.checkpoints.store()
            self._requeue(end, {})
            return
        error = end.error if end.state is not None else _error(JobErrorCode(end.code), _died(end.code))
        if not (self.work / outcome.REPORT).exists():
            found = self._report_what_is_known(end, error) or found
        verdict = found.verdict if found else None
        how = end.stopped or (error or {}).get("code")
        if self.job.kind == JobKind.TRAIN and how in UNFINISHED:
            verdict = self._tell_of_model(how, bool(found and found.model))
        left: Json = self._store_files() | {
            "metrics": found.metrics if found else None,
            "verdict": verdict,
        }
        model = self._model(found, verdict) if found and found.model else None
        if end.state is None:
            self._requeue(end, left, model)
            return
        done = self._persist(
            lambda: self.parts.records.finish_job(
                self.job.id,
                self.job.fence,
                end.state or JobState.FAILED,
                model=model,
                error=error,
                events=self._told,
                **left,
            )
        )
        if done:
            self.checkpoints.drop()
        self.log.info("the job ended" if done else "the lease was lost before the end", state=end.state)

    def _requeue(self, end: End, left: Json, model: Json | None = None) -> None:
        """Back to the queue; after the last attempt this is the job's end, with what is `left` of it."""
        row = self._persist(
            lambda: self.parts.records.requeue_lost(
                self.job.id,
                self.job.fence,
                code=end.code,
                message=_died(end.code),
                model=model,
                left=left,
                events=self._told,
            )
        )
        if row is not None and row.checkpoint is None:
            self.checkpoints.drop()
        self.log.warning("the training process died", state=row.state if row else None, code=end.code)

    def _report_what_is_known(self, end: End, error: Json | None) -> Outcome | None:
        """What a child of its own makes of what is there, of a job whose first child left no report."""
        if self.job.kind == JobKind.PREFLIGHT:
            outcome.write_json(self.work / outcome.REPORT, preflight_without_result(error))
            return None
        status = "cancelled" if end.state is JobState.CANCELLED else (error or {}).get("code", "internal")
        if (self.work / outcome.JOB).exists():
            described = json.loads((self.work / outcome.JOB).read_text(encoding="utf-8"))
            self._write_job(described | {"status": status, "error": error})
            (self.work / outcome.OUTCOME).unlink(missing_ok=True)
            self._draw_up(REPORT_SECONDS[status == "cancelled"])
            found = Outcome.read(self.work)
            if found is not None and (self.work / outcome.REPORT).exists():
                return found
        self.joblog.add("no report could be drawn up from the readings")
        told: Json = {"status": status, "error": error if status != "cancelled" else None, "rests_on": []}
        summary = f"The job ended ({status}), and no report on its training could be drawn up."
        outcome.write_json(self.work / outcome.REPORT, empty_report(summary=summary) | {"provenance": told})
        return None

    def _tell_of_model(self, status: str, kept: bool) -> str | None:
        """Only here is it known whether an unfinished job's model came in time; the report's verdict."""
        path = self.work / outcome.REPORT
        report = with_model_told(json.loads(path.read_text(encoding="utf-8")), status, kept)
        outcome.write_json(path, report)
        verdict: str | None = report["verdict"]
        return verdict

    def _draw_up(self, seconds: float) -> None:
        """Report first, then the last good model if it comes in time; without a report there is no hurry."""
        child = Child("report", self.work, Bounds(memory_mb=self.parts.settings.job_memory_mb))
        begun = time.monotonic()
        while not child.ended and self.holding.stop.reason is not Stop.LOST:
            spent = time.monotonic() - begun
            if spent > LONGEST_REPORT_SECONDS or (spent > seconds and Outcome.read(self.work)):
                break
            child.wait(0.1)
            for _ in child.messages():
                pass
        child.kill()
        child.wait(1.0)
        child.close()

    def _store_files(self) -> Json:
        """Artefacts first: whatever the record will name is there before it is named."""
        self.joblog.finish()
        files = {
            "report_digest": self.work / outcome.REPORT,
            "series_digest": self.work / outcome.SERIES,
            "predictions_digest": self.work / outcome.PREDICTIONS,
            "logs_digest": self.joblog.path,
        }
        return {name: self._store(path) for name, path in files.items() if path.exists()}

    def _store(self, path: Path) -> str:
        return self._persist(lambda: self.parts.objects.put_file(path))

    def _model(self, found: Outcome, verdict: str | None) -> Json:
        assert found.model is not None
        paths = {form: self.work / name for form, name in outcome.MODEL_FILES.items()}
        digests = {form: f"sha256:{self._store(path)}" for form, path in paths.items() if path.exists()}
        fields = {key: found.model[key] for key in ("target", "task", "columns", "classes")}
        return fields | {"digests": digests, "metrics": found.metrics, "verdict": verdict}

    def _persist(self, action: Callable[[], T]) -> T:
        return persist(action, self.holding, self.parts.stopping.wait, self.log)


def _judge(found: Outcome | None, ending: Ending) -> End:
    """What the child's last words and its exit make of the job."""
    if found is not None:
        return _judge_words(found, ending)
    if ending.stopped is Stop.CANCELLED:
        return End(JobState.CANCELLED)
    if ending.stopped is Stop.DEADLINE:
        return End(
            JobState.FAILED, _error(JobErrorCode.DEADLINE, "the job ran longer than this worker allows")
        )
    if ending.memory_kill and ending.exit_code == -signal.SIGKILL:
        return End(None, code=JobErrorCode.OUT_OF_MEMORY)
    return End(None)


def _judge_words(found: Outcome, ending: Ending) -> End:
    if found.status == "succeeded" and ending.stopped is Stop.CANCELLED:
        return End(JobState.CANCELLED)  # asked for in time; the model is kept
    if found.status in STATES:
        return End(STATES[found.status])
    return End(
        JobState.FAILED, found.error or _error(JobErrorCode.INTERNAL, f"the child ended as {found.status}")
    )


def _died(code: str) -> str:
    """Why a job ends whose process died at every attempt."""
    if code == JobErrorCode.OUT_OF_MEMORY:
        return str(failures.out_of_memory()["message"])
    return "the training process died again and again"


def _error(code: JobErrorCode, message: str) -> Json:
    return {"code": code.value, "message": message, "where": {}}


def _without(data: Json, *names: str) -> Json:
    return {key: value for key, value in data.items() if key not in names}
