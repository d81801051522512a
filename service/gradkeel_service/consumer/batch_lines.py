"""What becomes of a line of a batch: a job, or the problem that it is rejected with."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from gradkeel.contract import strict_json
from gradkeel.contract.errors import FieldError, escape_pointer
from gradkeel.contract.problems import Problem
from gradkeel.contract.resolve import check_name, to_json
from gradkeel_service.admission import Admission, checked_object
from gradkeel_service.errors import Refusal
from gradkeel_service.jsonl import MAX_LINE_BYTES, Line
from gradkeel_service.problems import FAILURES_OF_STORE, refusal_of
from gradkeel_store.records import BatchRow, DatasetRow, NewJob, NewLine, WorkerRow

log = structlog.get_logger(__name__)

KEYS = ("custom_id", "config")
REMEMBERED = 16
"""Data sets that are kept in mind; the profile of a wide one takes megabytes."""


@dataclass(frozen=True)
class RememberingAdmission(Admission):
    """Asks for a data set once, and for the workers: for a while in which little changes."""

    datasets: dict[tuple[str, str], DatasetRow] = field(default_factory=dict)
    workers: list[WorkerRow] = field(default_factory=list)

    def find_dataset(self, project: str, dataset_id: str) -> DatasetRow:
        known = self.datasets.get((project, dataset_id))
        if known is None:
            known = super().find_dataset(project, dataset_id)
            if len(self.datasets) >= REMEMBERED:
                self.datasets.clear()
            self.datasets[project, dataset_id] = known
        return known

    def live_workers(self) -> list[WorkerRow]:
        if not self.workers:
            self.workers.extend(super().live_workers())
        return self.workers

    def forget(self) -> None:
        """Something has changed: ask anew."""
        self.datasets.clear()
        self.workers.clear()


class Examiner:
    """Examines the lines of one batch in their order, some at a time.

    ``seen`` are the custom ids of earlier lines. Those of the lines at hand are added by ``keep``, once they
    are written; until then ``examine`` may be called again for the same lines.
    """

    def __init__(self, batch: BatchRow, admission: RememberingAdmission, seen: set[str]) -> None:
        self._batch = batch
        self._admission = admission
        self._seen = seen
        self._fresh: set[str] = set()

    def examine(self, lines: list[Line]) -> list[NewLine]:
        """Raises a ``StoreError`` where the store cannot be asked now: nothing is wrong with the lines."""
        self._fresh = set()
        return [self._examined(line) for line in lines]

    def keep(self) -> None:
        self._seen |= self._fresh

    def _examined(self, line: Line) -> NewLine:
        document: dict[str, Any] = {}
        try:
            document = _document_of(line)
            _refuse(list(self._faults(document)))
            job = None if self._batch.cancel_requested else self._job(document["config"])
            return NewLine(line.number, document["custom_id"], job)
        except Exception as error:
            problem = _problem_of(error, line.number)
            return NewLine(line.number, _custom_id_of(document), error=problem.to_json())
        finally:
            if (custom_id := _custom_id_of(document)) is not None:
                self._fresh.add(custom_id)

    def _faults(self, document: dict[str, Any]) -> Iterator[FieldError]:
        for key in document:
            if key not in KEYS:
                detail = f"a line holds custom_id and config, and nothing named {key[:80]!r}"
                yield FieldError(f"/{escape_pointer(key[:80])}", "unknown_field", detail)
        if (complaint := self._complaint(document.get("custom_id"))) is not None:
            yield FieldError("/custom_id", *complaint)
        if not isinstance(document.get("config"), dict):
            code = "wrong_type" if "config" in document else "required"
            yield FieldError("/config", code, "config must be a JSON object, as POST /v1/jobs takes it")

    def _complaint(self, custom_id: object) -> tuple[str, str] | None:
        """Code and detail of what is wrong with a custom id."""
        if custom_id is None:
            return "required", "custom_id is needed: it names the line in the results"
        if not isinstance(custom_id, str):
            return "wrong_type", "custom_id must be a string"
        if not custom_id or check_name(custom_id) is not None:
            return "bad_text", "custom_id has 1 to 200 characters and no control characters"
        if custom_id in self._seen or custom_id in self._fresh:
            return "duplicate", "an earlier line of this batch has the same custom_id"
        return None

    def _job(self, submitted: dict[str, Any]) -> NewJob:
        try:
            found = self._admission.check(self._batch.project, submitted)
        except Exception as error:
            refusal = refusal_of(error)
            if refusal is None:
                raise
            raise _below_config(refusal) from error
        return NewJob(found.dataset.id, found.submitted, to_json(found.config), dict(found.config.labels))


def _document_of(line: Line) -> dict[str, Any]:
    if line.text is None:
        raise Refusal("too_large", f"the line has more than {MAX_LINE_BYTES} bytes")
    document = strict_json.loads(line.text)
    if not isinstance(document, dict):
        fault = FieldError("", "wrong_type", "not an object")
        raise Refusal("invalid", "the line must be a JSON object", [fault])
    return checked_object(document)


def _custom_id_of(document: dict[str, Any]) -> str | None:
    """The line's custom id, where it can be kept."""
    custom_id = document.get("custom_id")
    good = isinstance(custom_id, str) and custom_id and check_name(custom_id) is None
    return custom_id if good else None


def _refuse(faults: list[FieldError]) -> None:
    if faults:
        detail = faults[0].detail if len(faults) == 1 else f"{len(faults)} places cannot be accepted"
        raise Refusal("invalid", detail, faults)


def _below_config(refusal: Refusal) -> Refusal:
    """The same refusal with its pointers into the line."""
    errors = [replace(fault, pointer=f"/config{fault.pointer or ''}") for fault in refusal.errors]
    return Refusal(refusal.code, refusal.detail, errors)


def _problem_of(error: Exception, number: int) -> Problem:
    """The problem that a line is rejected with. What is no fault of the line is raised again."""
    refusal = refusal_of(error)
    if refusal is None:
        log.error("a line failed", line=number, exc_info=error)
        refusal = Refusal("internal", "an unexpected failure; the log of the consumer has the details")
    if refusal.code in FAILURES_OF_STORE:
        raise error
    return Problem(refusal.code, refusal.detail, [replace(fault, line=number) for fault in refusal.errors])
