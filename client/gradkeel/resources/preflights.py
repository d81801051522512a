"""``/v1/preflights``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradkeel.resources.datasets import DatasetData
from gradkeel.resources.jobs import AsyncJob, Job, create_document
from gradkeel.sansio import flows
from gradkeel.sansio.commands import Request

if TYPE_CHECKING:
    from gradkeel.client import AsyncClient, Client

PATH = "/preflights"


def create_request(
    data: DatasetData | str | None,
    target: str | Sequence[str] | None,
    config: Mapping[str, Any] | None,
    blocks: Mapping[str, Any],
    priority: int | None,
    key: str | None,
) -> Request:
    document = create_document(data, target, config, blocks)
    return flows.post(PATH, document, params={"priority": priority}, key=key)


class Preflights:
    """``client.preflights``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(
        self,
        data: DatasetData | str | None = None,
        *,
        target: str | Sequence[str] | None = None,
        config: Mapping[str, Any] | None = None,
        priority: int | None = None,
        idempotency_key: str | None = None,
        **blocks: Any,
    ) -> Job:
        """Look, before any training, which learning rate a config can use under which scaling.

        Takes what ``jobs.create`` takes, and gives a job whose report tells it: ``job.wait().report()``, then
        ``report.preflight`` and ``report.recommended["patch"]``. Trains nothing and leaves no model. Raises
        ``UnprocessableError`` with a pointer to each fault.
        """
        request = create_request(data, target, config, blocks, priority, idempotency_key)
        return Job(self._client.run(flows.document_of(request, self._client.policy)), self._client)


class AsyncPreflights:
    """``client.preflights`` of ``AsyncClient``. See ``Preflights``."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def create(
        self,
        data: DatasetData | str | None = None,
        *,
        target: str | Sequence[str] | None = None,
        config: Mapping[str, Any] | None = None,
        priority: int | None = None,
        idempotency_key: str | None = None,
        **blocks: Any,
    ) -> AsyncJob:
        """See ``Preflights.create``."""
        request = create_request(data, target, config, blocks, priority, idempotency_key)
        return AsyncJob(await self._client.run(flows.document_of(request, self._client.policy)), self._client)
