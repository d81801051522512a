"""From messages of the queue to records: each becomes a job or a rejection, once, by the rules of HTTP.

A message whose key proves a project and that carries an id ends as a record. Any other is counted, named in
the log without its content, and forgotten: there is nobody to tell.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from gradkeel.contract.errors import FieldError
from gradkeel.contract.ids import KEY, REQUEST, is_id, new_id
from gradkeel.contract.problems import Problem
from gradkeel.contract.resolve import to_json
from gradkeel.contract.states import Scope
from gradkeel.contract.tasks import SUBMIT
from gradkeel_service.admission import Admission, checked_object
from gradkeel_service.auth import require_scope
from gradkeel_service.consumer.batch_lines import RememberingAdmission
from gradkeel_service.consumer.parts import ConsumerParts
from gradkeel_service.errors import Refusal, invalid
from gradkeel_service.problems import FAILURES_OF_STORE, UNEXPECTED, refusal_of
from gradkeel_service.submission_ids import LONGEST_ID, is_submission_id
from gradkeel_store.deliveries import Call, Delivery, Unreadable, call_of
from gradkeel_store.errors import StoreError
from gradkeel_store.logs import get_logger, redact
from gradkeel_store.queue import ring_train
from gradkeel_store.records import KeyRow, NewJob, NewSubmission, Recorded

KWARGS = ("submission_id", "api_key", "config")
RINGS = 8
"""Doorbells for one look at the queue: a worker that hears one goes on until nothing is left."""

BROAD_KEY = {
    "code": "broad_key",
    "detail": "the key has more scopes than submit; put a key with that scope alone on the broker",
}

OUTCOMES = ("accepted", "rejected", "repeated", "contradicted", "unauthorized", "unreadable")
"""What may become of a message. contradicted: its id has a record that was made from another config."""


@dataclass(frozen=True)
class Claim:
    """A call whose key is known and whose id can bear a record."""

    delivery: Delivery
    key: KeyRow
    submission_id: str
    call: Call = field(repr=False)

    @property
    def name(self) -> tuple[str, str]:
        return self.key.project, self.submission_id

    @property
    def config_sha256(self) -> str:
        try:
            text = json.dumps(self.call.kwargs.get("config"), sort_keys=True)
        except RecursionError:
            return hashlib.sha256(self.delivery.body).hexdigest()
        return hashlib.sha256(text.encode()).hexdigest()


class Submitting:
    """Takes in messages, many at a time, in one thread. ``counts`` says what became of them so far."""

    def __init__(self, parts: ConsumerParts) -> None:
        self._parts = parts
        self._log = get_logger(__name__)
        self.counts: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))

    def take_in(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Record what becomes of each, all in one transaction; those that have to wait are given back.

        A submission waits while its project may queue no more jobs. Raises ``StoreError`` where the records
        cannot be written now: nothing has happened then, and the same deliveries may be taken in again.
        """
        admission = RememberingAdmission(self._parts.records, self._parts.settings)
        keys: dict[str, KeyRow | None] = {}
        claims = [claim for delivery in deliveries if (claim := self._claim(delivery, keys))]
        known = self._parts.records.known_submissions(claim.name for claim in claims)
        room: dict[str, int] = {}
        new: list[NewSubmission] = []
        judged: list[Claim] = []
        waiting: list[Delivery] = []
        for claim in claims:
            item = self._judge(claim, admission) if claim.name not in known else self._entry(claim)
            if item.job is None or self._has_room(item.project, room):
                new.append(item)
                judged.append(claim)
            else:
                waiting.append(claim.delivery)
        recorded = self._record(new)
        self._tell(judged, new, recorded)
        self._ring(recorded)
        return waiting

    # Who sent it, and under which name

    def _claim(self, delivery: Delivery, keys: dict[str, KeyRow | None]) -> Claim | None:
        try:
            call = call_of(delivery, self._parts.settings.max_body_bytes)
            if call.task != SUBMIT:
                raise Unreadable(f"the task is {call.task[:60]!r}, not {SUBMIT}")
            token = call.kwargs.get("api_key")
            key = self._authenticated(token, keys)
            if key is None:
                self._drop("unauthorized", "the key is unknown, expired or revoked", key_id=_id_part(token))
                return None
            submission_id = call.kwargs.get("submission_id")
            if not is_submission_id(submission_id):
                raise Unreadable(f"submission_id is not a text of 1 to {LONGEST_ID} printable characters")
            return Claim(delivery, key, submission_id, call)
        except Unreadable as fault:
            self._drop("unreadable", str(fault))
            return None

    def _authenticated(self, token: Any, keys: dict[str, KeyRow | None]) -> KeyRow | None:
        if not isinstance(token, str):
            return None
        if token not in keys:
            keys[token] = self._parts.records.authenticate(token)
        return keys[token]

    def _drop(self, outcome: str, reason: str, **more: Any) -> None:
        self.counts[outcome] += 1
        self._log.warning("a message of the queue was dropped", outcome=outcome, reason=reason, **more)

    # What becomes of it

    def _judge(self, claim: Claim, admission: Admission) -> NewSubmission:
        try:
            return self._entry(claim, job=_job(claim, admission))
        except OSError:
            raise
        except Exception as error:
            refusal = refusal_of(error)
            if refusal is not None and refusal.code in FAILURES_OF_STORE:
                raise
            if refusal is None:
                self._log.exception("a submission failed in the service itself")
            return self._rejection(claim, refusal or UNEXPECTED)

    def _entry(
        self, claim: Claim, job: NewJob | None = None, error: Mapping[str, Any] | None = None
    ) -> NewSubmission:
        broad = set(claim.key.scopes) != {Scope.SUBMIT}
        warnings = [BROAD_KEY] if broad else []
        return NewSubmission(*claim.name, claim.config_sha256, warnings, job, error)

    def _rejection(self, claim: Claim, refusal: Refusal) -> NewSubmission:
        return self._entry(claim, error=_problem(claim.submission_id, refusal))

    def _has_room(self, project: str, room: dict[str, int]) -> bool:
        if project not in room:
            room[project] = self._parts.admission.room(project)
        room[project] -= 1
        return room[project] >= 0

    def _record(self, new: Sequence[NewSubmission]) -> list[Recorded]:
        """Write all; where the database chokes on one, write each alone and reject that one."""
        try:
            return self._parts.records.record_submissions(new, _refuse)
        except (StoreError, OSError):
            raise
        except Exception:
            if len(new) > 1:
                return [answer for item in new for answer in self._record([item])]
            if new[0].job is None:
                raise
            self._log.exception("a submission could not be recorded")
        item = new[0]
        problem = _problem(item.submission_id, UNEXPECTED)
        rejected = NewSubmission(*item.name, item.config_sha256, item.warnings, None, problem)
        return self._parts.records.record_submissions([rejected], _refuse)

    # Afterwards

    def _tell(
        self, claims: Sequence[Claim], new: Sequence[NewSubmission], recorded: Sequence[Recorded]
    ) -> None:
        for claim, item, found in zip(claims, new, recorded, strict=True):
            outcome = _outcome(item, found)
            self.counts[outcome] += 1
            tell = self._log.warning if outcome == "contradicted" else self._log.info
            error = found.row.error if outcome == "rejected" else None
            tell(
                "submission",
                outcome=outcome,
                submission_id=claim.submission_id,
                key_id=claim.key.id,
                job_id=found.row.job_id,
                **({"problem": error["type"], "request_id": error["request_id"]} if error else {}),
            )

    def _ring(self, recorded: Sequence[Recorded]) -> None:
        made = [found.row.job_id for found in recorded if found.fresh and found.row.job_id is not None]
        for job_id in made[:RINGS]:
            if not ring_train(self._parts.celery, job_id):
                return  # workers look for jobs themselves


def _id_part(token: Any) -> str | None:
    """The part of a token that is no secret, where it has one."""
    key_id = token.partition(".")[0] if isinstance(token, str) else ""
    return key_id if is_id(key_id, KEY) else None


def _job(claim: Claim, admission: Admission) -> NewJob:
    """The job to be made; raises what HTTP would answer."""
    require_scope(claim.key, Scope.SUBMIT)
    if claim.call.fault:
        raise Refusal("bad_json", claim.call.fault)
    _check_arguments(claim.call)
    submitted = checked_object(claim.call.kwargs["config"])
    found = admission.check(claim.key.project, submitted)
    return NewJob(found.dataset.id, found.submitted, to_json(found.config), dict(found.config.labels))


def _check_arguments(call: Call) -> None:
    if call.args:
        raise invalid("", "positional", "arguments are passed by name, not by position")
    unknown = [name[:80].replace("\0", "") for name in call.kwargs if name not in KWARGS][:20]
    faults = [FieldError(f"/{name}", "unknown_field", f"unknown argument {name!r}") for name in unknown]
    if faults:
        raise Refusal("invalid", faults[0].detail, faults)
    if "config" not in call.kwargs:
        raise invalid("/config", "required", "config is needed")


def _refuse(item: NewSubmission, error: StoreError) -> dict[str, Any]:
    return _problem(item.submission_id, refusal_of(error) or UNEXPECTED)


def _problem(submission_id: str, refusal: Refusal) -> dict[str, Any]:
    place = f"/v1/submissions/{quote(submission_id, safe='')}"
    problem = Problem(refusal.code, refusal.detail, refusal.errors, place, new_id(REQUEST)).to_json()
    shown: dict[str, Any] = redact(problem)  # a key that stands in the wrong place is not kept either
    return shown


def _outcome(item: NewSubmission, found: Recorded) -> str:
    if found.fresh:
        return found.row.state
    return "repeated" if found.row.config_sha256 == item.config_sha256 else "contradicted"
