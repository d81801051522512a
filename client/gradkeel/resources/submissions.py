"""``/v1/submissions``: what became of jobs that were put on the queue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from gradkeel.documents import Document, Field, many, mapping, moment, optional, text
from gradkeel.sansio import flows

if TYPE_CHECKING:
    from gradkeel.client import AsyncClient, Client

PATH = "/submissions"


class Submission(Document):
    """What became of a submission: ``job_id`` where it was accepted, the problem ``error`` where rejected."""

    submission_id = Field(text)
    state = Field(text)
    job_id = Field(optional(text))
    error = Field(optional(mapping))
    warnings = Field(many(mapping))
    created_at = Field(moment)

    def __hash__(self) -> int:
        return hash((type(self), self.submission_id))

    def __repr__(self) -> str:
        return f"<Submission {self.submission_id} {self.state}>"


def path_of(submission_id: str) -> str:
    return f"{PATH}/{flows.segment(submission_id)}"


def list_params(state: str | None, limit: int | None, order: str | None) -> dict[str, Any]:
    return {"state": state, "limit": limit, "order": order}


class Submissions:
    """``client.submissions``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def get(self, submission_id: str) -> Submission:
        """What became of it; ``NotFoundError`` while no record exists: then send it again."""
        request = flows.get(path_of(submission_id))
        return Submission(self._client.run(flows.document_of(request, self._client.policy)))

    def list(
        self, *, state: str | None = None, limit: int | None = None, order: str | None = None
    ) -> Iterator[Submission]:
        """Every submission (``state``: accepted or rejected), page after page (``limit`` a page)."""
        params = list_params(state, limit, order)
        return self._client.iterate(flows.pages(PATH, params, self._client.policy, Submission))


class AsyncSubmissions:
    """``client.submissions`` of ``AsyncClient``. See ``Submissions``."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def get(self, submission_id: str) -> Submission:
        """See ``Submissions.get``."""
        request = flows.get(path_of(submission_id))
        return Submission(await self._client.run(flows.document_of(request, self._client.policy)))

    def list(
        self, *, state: str | None = None, limit: int | None = None, order: str | None = None
    ) -> AsyncIterator[Submission]:
        """See ``Submissions.list``."""
        params = list_params(state, limit, order)
        return self._client.iterate(flows.pages(PATH, params, self._client.policy, Submission))
