"""Large uploads (tus 1.0): announced once, sent in as many requests as the line takes.

What the service has stored is asked for, never assumed. Tries are counted anew whenever bytes got through.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from gradkeel.contract.states import UploadState
from gradkeel.errors import APIStatusError, error_class
from gradkeel.sansio import flows
from gradkeel.sansio.commands import Answer, Body, Call, Exchange, Failure, Flow, Outcome, Request, Sleep
from gradkeel.sansio.problems import describe, error_of
from gradkeel.sansio.retry import LONGEST_RETRY_AFTER_SECONDS, RetryPolicy, retry_after

PATH = "/uploads"
TUS = {"Tus-Resumable": "1.0.0"}
OFFSET_TYPE = "application/offset+octet-stream"
DATASET_HEADER = "gradkeel-dataset-id"

RESUMABLE_BYTES = 64 * 1024 * 1024
"""From this size on a source is sent resumably, unless the caller says otherwise."""

GONE = frozenset({404, 410})
TRIED_AGAIN = frozenset({408, 409, 423, 429})
CUT = b"urn:gradkeel:problem:bad_body"
PATIENCE = 10

Json = dict[str, Any]


class Sendable(Protocol):
    """What can be sent from any byte on."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def repr_digest(self) -> str: ...
    def part(self, start: int) -> Body:
        """The bytes from ``start`` to the end."""


class Bookmark(Protocol):
    """Remembers the upload's id, so that a later process can go on with it."""

    def read(self) -> str | None:
        """The id, where one was remembered."""

    def remember(self, upload_id: str) -> None: ...
    def forget(self, upload_id: str) -> None: ...


@dataclass(frozen=True)
class Standing:
    """What the service has: bytes, and in the end the data set's id."""

    offset: int
    dataset_id: str | None = None


def send(
    source: Sendable, options: Mapping[str, Any], policy: RetryPolicy, bookmark: Bookmark | None
) -> Flow[str]:
    """Send a source, from where an earlier try was cut: the data set's id.

    Raises as every flow does, and for an upload that the service refused once it had seen its bytes.
    """
    patient = replace(policy, max_retries=max(policy.max_retries, PATIENCE)) if policy.max_retries else policy
    upload_id, standing = yield from _begun(source, options, patient, bookmark)
    try:
        standing = yield from _pushed(upload_id, standing, source, patient)
        dataset_id = standing.dataset_id or (yield from _assembled(upload_id, patient))
    except APIStatusError as error:
        if bookmark is not None and error.status < 500:
            yield Call(bookmark.forget, upload_id)
        raise
    if bookmark is not None:
        yield Call(bookmark.forget, upload_id)
    return dataset_id


def _begun(
    source: Sendable, options: Mapping[str, Any], policy: RetryPolicy, bookmark: Bookmark | None
) -> Flow[tuple[str, Standing]]:
    """The upload to go on with, or a fresh one."""
    remembered = None if bookmark is None else bookmark.read()
    if remembered is not None:
        standing = yield from _standing(remembered, policy)
        if standing is not None:
            return remembered, standing
    answer = yield from flows.answer_of(announcement(source, options), policy)
    upload_id = answer.headers["location"].rpartition("/")[2]
    if bookmark is not None:
        yield Call(bookmark.remember, upload_id)
    return upload_id, Standing(0)


def announcement(source: Sendable, options: Mapping[str, Any]) -> Request:
    """The request that begins an upload."""
    said = flows.query({"name": source.name, **options})
    headers = {
        **TUS,
        "Upload-Length": str(source.size),
        "Upload-Metadata": ",".join(f"{key} {_base64(value)}" for key, value in said.items()),
        "Repr-Digest": source.repr_digest,
    }
    request = flows.post(PATH)
    return replace(request, headers={**request.headers, **headers})


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def path_of(upload_id: str) -> str:
    return f"{PATH}/{flows.segment(upload_id)}"


def _standing(upload_id: str, policy: RetryPolicy) -> Flow[Standing | None]:
    """Where the upload stands; None where it is gone."""
    outcome = yield from flows.outcome_of(Request("HEAD", path_of(upload_id), headers=TUS), policy)
    if isinstance(outcome, Answer) and outcome.status in GONE:
        return None
    if isinstance(outcome, Failure) or outcome.status >= 300:
        raise error_of(outcome)
    return read_standing(outcome)


def read_standing(answer: Answer) -> Standing:
    return Standing(int(answer.headers["upload-offset"]), answer.headers.get(DATASET_HEADER))


def _pushed(upload_id: str, standing: Standing, source: Sendable, policy: RetryPolicy) -> Flow[Standing]:
    """Send what is missing, one request after the other, until the service has every byte."""
    retries = 0
    while standing.offset < source.size:
        outcome: Outcome = yield Exchange(_rest(upload_id, standing.offset, source))
        if isinstance(outcome, Answer) and outcome.status == 204:
            return read_standing(outcome)
        delay = pause(policy, retries, outcome)
        if delay is None:
            raise error_of(outcome)
        yield Sleep(delay)
        found = yield from _standing(upload_id, policy)
        if found is None:
            raise error_of(outcome)
        retries = 0 if found.offset > standing.offset else retries + 1
        standing = found
    return standing


def _rest(upload_id: str, offset: int, source: Sendable) -> Request:
    headers = {**TUS, "Upload-Offset": str(offset), "Content-Type": OFFSET_TYPE}
    return Request("PATCH", path_of(upload_id), headers=headers, body=source.part(offset))


def pause(policy: RetryPolicy, retries: int, outcome: Outcome) -> float | None:
    """Seconds until the upload is asked for again after a request that did not go through; None: give up."""
    if retries >= policy.max_retries or not _may_go_on(outcome):
        return None
    asked = retry_after(outcome)
    if asked is None:
        return policy.backoff(retries)
    return asked if asked <= LONGEST_RETRY_AFTER_SECONDS else None


def _may_go_on(outcome: Outcome) -> bool:
    if isinstance(outcome, Failure):
        return True
    if outcome.status == 400:
        return CUT in outcome.content
    return outcome.status >= 500 or outcome.status in TRIED_AGAIN


def _assembled(upload_id: str, policy: RetryPolicy) -> Flow[str]:
    """Wait for the data set of an upload that is whole."""
    document = yield from flows.poll(path_of(upload_id), _settled, policy, None, f"The upload {upload_id}")
    if document["state"] == UploadState.DONE:
        return str(document["dataset_id"])
    problem = document.get("error") or {}
    status = int(problem.get("status") or 400)
    raise error_class(status)(describe(problem), status=status, problem=problem)


def _settled(document: Json) -> bool:
    return document["state"] in (UploadState.DONE, UploadState.FAILED)
