"""One reading of an upload, from its claim to ready or rejected. The file is opened in the child alone."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from gradkeel.contract.errors import FieldError
from gradkeel.contract.problems import Problem
from gradkeel.contract.states import JobErrorCode
from gradkeel_store.errors import ObjectError, StoreError
from gradkeel_store.records import DatasetRow
from gradkeel_worker import outcome
from gradkeel_worker.holdings import Holding
from gradkeel_worker.limits import Bounds
from gradkeel_worker.outcome import Outcome
from gradkeel_worker.parts import Parts
from gradkeel_worker.processes import CannotStart, Child
from gradkeel_worker.signals import Stop
from gradkeel_worker.storing import persist
from gradkeel_worker.watch import Ending, Watch

T = TypeVar("T")

DATABASE_SHARE = 6
"""DuckDB is told to use this part of the reader's memory; parsing and writing need the rest."""


def read_upload(parts: Parts, dataset: DatasetRow) -> None:
    """Read a claimed data set. Raises nothing that concerns one data set alone."""
    work = parts.folder / f"{dataset.id}-{dataset.fence}"
    log = parts.log.bind(dataset_id=dataset.id, fence=dataset.fence)
    try:
        holding = Holding(
            dataset.id, dataset.fence, lambda: parts.records.heartbeat_dataset(dataset.id, dataset.fence)
        )
    except OSError as error:
        _wait_for_room(parts, dataset, error, log)
        return
    parts.holdings.add(holding)
    try:
        work.mkdir(parents=True)
        if parts.stopping.is_set():
            holding.stop.request(Stop.RELEASED)
        _Reading(parts, dataset, work, holding, log).run()
    except StoreError as error:
        log.warning("the reading is given up; its lease runs out", error=str(error))
    except CannotStart as error:
        _wait_for_room(parts, dataset, error, log)
    except Exception:
        log.exception("the reading failed in the worker itself")
        with contextlib.suppress(StoreError):
            parts.records.requeue_lost_dataset(dataset.id, dataset.fence)
    finally:
        parts.holdings.remove(holding)
        shutil.rmtree(work, ignore_errors=True)


def _wait_for_room(parts: Parts, dataset: DatasetRow, error: Exception, log: Any) -> None:
    """Give the data set back, attempt included: it is not to blame that nothing can be started here."""
    log.error("this machine has no room for the reading", error=str(error))
    parts.stopping.wait(parts.settings.poll_seconds)
    with contextlib.suppress(StoreError):
        parts.records.release_dataset(dataset.id, dataset.fence)


class _Reading:
    def __init__(self, parts: Parts, dataset: DatasetRow, work: Path, holding: Holding, log: Any) -> None:
        self.parts, self.dataset, self.work, self.holding, self.log = parts, dataset, work, holding, log

    def run(self) -> None:
        try:
            self._persist(lambda: self.parts.objects.fetch(self.dataset.sha256, self.work / outcome.UPLOAD))
        except ObjectError as error:
            self._reject(Problem("internal", f"the uploaded bytes cannot be read: {error}"))
            return
        self._describe()
        self._finish(self._read())

    def _describe(self) -> None:
        settings = self.parts.settings
        limits = {
            "unpacked_bytes": settings.max_unpacked_bytes,
            "columns": settings.max_columns,
            "rows": settings.max_rows,
            "memory_mb": max(64, settings.ingest_memory_mb // DATABASE_SHARE),
        }
        document = {"options": self.dataset.options, "limits": limits}
        outcome.write_text(self.work / outcome.JOB, json.dumps(document))

    def _read(self) -> Ending:
        settings = self.parts.settings
        file_mb = 2 * settings.max_unpacked_bytes // (1 << 20)
        child = Child("ingest", self.work, Bounds(settings.ingest_memory_mb, file_mb=file_mb))
        watch = Watch(
            child,
            self.holding,
            settings.ingest_seconds,
            settings.self_kill_seconds,
            on_message=lambda message: None,
            on_tick=lambda: None,
        )
        return watch.until_end()

    def _finish(self, ending: Ending) -> None:
        if ending.stopped is Stop.LOST:
            self.log.warning("the lease is lost; the reading counts for nothing")
            return
        found = Outcome.read(self.work)
        if found is not None:
            self._finish_with(found)
        elif ending.stopped is Stop.RELEASED:
            self._persist(lambda: self.parts.records.release_dataset(self.dataset.id, self.dataset.fence))
        elif ending.stopped is Stop.DEADLINE:
            limit = self.parts.settings.ingest_seconds
            self._reject(_problem("too_slow", f"reading the file took longer than {limit:g} seconds"))
        else:
            self._requeue(ending)

    def _finish_with(self, found: Outcome) -> None:
        if found.status == "rejected":
            self._reject(found.problem)
        elif found.profile is not None:
            self._ready(found.profile)
        elif (found.error or {}).get("code") == JobErrorCode.OUT_OF_MEMORY:
            self._reject(_too_much_memory())
        else:
            self.log.error("the reader failed", error=found.error, output=self._printed())
            self._requeue_as(Problem("internal", "the file could not be read: the reader failed"))

    def _ready(self, profile: dict[str, Any]) -> None:
        digest = self._persist(lambda: self.parts.objects.put_file(self.work / outcome.TABLE))
        columns = [{key: c[key] for key in ("name", "type", "missing")} for c in profile["columns"]]
        done = self._persist(
            lambda: self.parts.records.finish_dataset(
                self.dataset.id, self.dataset.fence, digest, profile, profile["rows"], columns
            )
        )
        self.log.info("the data set is ready" if done else "the lease was lost", rows=profile["rows"])

    def _reject(self, problem: Problem | dict[str, Any] | None) -> None:
        self._persist(
            lambda: self.parts.records.reject_dataset(self.dataset.id, self.dataset.fence, problem or {})
        )
        self.log.info("the data set was rejected")

    def _requeue(self, ending: Ending) -> None:
        self.log.warning("the reader died", exit_code=ending.exit_code, memory=ending.memory_kill)
        lost = Problem("internal", "the file could not be read: its reader died again and again")
        self._requeue_as(_too_much_memory() if ending.memory_kill else lost)

    def _requeue_as(self, problem: Problem) -> None:
        self._persist(
            lambda: self.parts.records.requeue_lost_dataset(
                self.dataset.id, self.dataset.fence, problem=problem
            )
        )

    def _printed(self) -> str:
        try:
            return (self.work / outcome.OUTPUT).read_text(encoding="utf-8", errors="replace")[-4000:]
        except FileNotFoundError:
            return ""

    def _persist(self, action: Callable[[], T]) -> T:
        return persist(action, self.holding, self.parts.stopping.wait, self.log)


def _problem(code: str, detail: str) -> Problem:
    return Problem("bad_data", detail, [FieldError(None, code, detail)])


def _too_much_memory() -> Problem:
    return _problem("out_of_memory", "reading the file needs more memory than the reader may use")
