"""``client.submissions``: the documents of the service, one by one and in pages."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2

from gradkeel import AsyncClient, Client, Submission

ACCEPTED = {
    "submission_id": "night/1",
    "state": "accepted",
    "job_id": "job_1",
    "error": None,
    "warnings": [{"code": "broad_key", "detail": "…"}],
    "created_at": "2026-03-01T12:00:00.000000Z",
}
PROBLEM = {"type": "urn:gradkeel:problem:invalid", "title": "…", "detail": "…", "errors": []}
REJECTED = ACCEPTED | {"submission_id": "night/2", "state": "rejected", "job_id": None, "error": PROBLEM}


def answer(request: httpx2.Request) -> httpx2.Response:
    """Two pages of one each; and one by its id."""
    if request.url.raw_path.startswith(b"/v1/submissions/night%2F1"):
        return httpx2.Response(200, json=ACCEPTED)
    assert request.url.path == "/v1/submissions"
    first = "after" not in request.url.params
    page: dict[str, Any] = {"data": [REJECTED if first else ACCEPTED], "has_more": first}
    return httpx2.Response(200, json=page | {"next_cursor": "x" if first else None})


def test_one_and_all() -> None:
    with Client("http://test", "key", transport=httpx2.MockTransport(answer)) as client:
        found = client.submissions.get("night/1")
        assert (found.submission_id, found.state, found.job_id) == ("night/1", "accepted", "job_1")
        assert (found.error, found.warnings[0]["code"], found.created_at.year) == (None, "broad_key", 2026)
        rejected, accepted = client.submissions.list(limit=1)
        assert (rejected.error, accepted) == (PROBLEM, found)
        assert repr(rejected) == "<Submission night/2 rejected>"
        assert len({found, accepted, rejected}) == 2


def test_the_same_for_asyncio() -> None:
    async def ask() -> list[Submission]:
        async with AsyncClient("http://test", "key", transport=httpx2.MockTransport(answer)) as client:
            one = await client.submissions.get("night/1")
            return [one, *[item async for item in client.submissions.list(limit=1)]]

    found = asyncio.run(ask())
    assert [item.raw for item in found] == [ACCEPTED, REJECTED, ACCEPTED]
    assert json.loads(json.dumps(found[0].raw)) == ACCEPTED
