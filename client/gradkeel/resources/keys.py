"""``/v1/keys`` (scope admin)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gradkeel.documents import Document, Field, moment, optional, text, texts
from gradkeel.sansio import flows
from gradkeel.sansio.commands import Request

if TYPE_CHECKING:
    from gradkeel.client import AsyncClient, Client

Json = dict[str, Any]
PATH = "/keys"


class Key(Document):
    """A key. ``secret`` (the whole token) is there only in the answer to its creation."""

    id = Field(text)
    name = Field(lambda value: str(value or ""))
    scopes = Field(texts)
    created_at = Field(moment)
    expires_at = Field(optional(moment))
    revoked_at = Field(optional(moment))
    last_used_at = Field(optional(moment))

    @property
    def secret(self) -> str | None:
        """The token to send, shown once."""
        found = self._raw.get("key")
        return str(found) if found else None


def create_request(
    scopes: Sequence[str], name: str, expires_at: datetime | str | None, expires_in: int | None
) -> Request:
    """The request for a new key; ``expires_in`` is in seconds."""
    until = expires_at.isoformat() if isinstance(expires_at, datetime) else expires_at
    asked: Json = {"name": name, "scopes": list(scopes), "expires_at": until, "expires_in": expires_in}
    return _secretive(flows.post(PATH, {key: value for key, value in asked.items() if value is not None}))


def rotate_request(key_id: str, overlap_seconds: int) -> Request:
    return _secretive(flows.post(f"{path_of(key_id)}/rotate", {"overlap_seconds": overlap_seconds}))


def _secretive(plain: Request) -> Request:
    """Not repeatable: no answer that holds a secret is kept, so a second try would make a second key."""
    headers = {name: value for name, value in plain.headers.items() if name != "Idempotency-Key"}
    return replace(plain, headers=headers, repeatable=False)


def path_of(key_id: str) -> str:
    return f"{PATH}/{flows.segment(key_id)}"


class Keys:
    """``client.keys``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(
        self,
        scopes: Sequence[str],
        *,
        name: str = "",
        expires_at: datetime | str | None = None,
        expires_in: int | None = None,
    ) -> Key:
        """Make a key with some of the scopes read, submit, admin. ``.secret`` is there this once.

        It ends at a moment (``expires_at``), after some seconds (``expires_in``), or never.
        """
        request = create_request(scopes, name, expires_at, expires_in)
        return Key(self._client.run(flows.document_of(request, self._client.policy)))

    def list(self, *, limit: int | None = None) -> Iterator[Key]:
        """Every key, without its secret."""
        return self._client.iterate(flows.pages(PATH, {"limit": limit}, self._client.policy, Key))

    def get(self, key_id: str) -> Key:
        """A key, without its secret."""
        return Key(self._client.run(flows.document_of(flows.get(path_of(key_id)), self._client.policy)))

    def rotate(self, key_id: str, *, overlap_seconds: int = 0) -> Key:
        """A new key of the same name, scopes and lifetime; ``.secret`` is there this once.

        The old one ends after ``overlap_seconds``.
        """
        request = rotate_request(key_id, overlap_seconds)
        return Key(self._client.run(flows.document_of(request, self._client.policy)))

    def revoke(self, key_id: str) -> None:
        """Make a key worthless at once."""
        self._client.run(flows.nothing_of(flows.delete(path_of(key_id)), self._client.policy))


class AsyncKeys:
    """``client.keys`` of ``AsyncClient``. See ``Keys``."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def create(
        self,
        scopes: Sequence[str],
        *,
        name: str = "",
        expires_at: datetime | str | None = None,
        expires_in: int | None = None,
    ) -> Key:
        """See ``Keys.create``."""
        request = create_request(scopes, name, expires_at, expires_in)
        return Key(await self._client.run(flows.document_of(request, self._client.policy)))

    def list(self, *, limit: int | None = None) -> AsyncIterator[Key]:
        """Every key, without its secret."""
        return self._client.iterate(flows.pages(PATH, {"limit": limit}, self._client.policy, Key))

    async def get(self, key_id: str) -> Key:
        """See ``Keys.get``."""
        return Key(await self._client.run(flows.document_of(flows.get(path_of(key_id)), self._client.policy)))

    async def rotate(self, key_id: str, *, overlap_seconds: int = 0) -> Key:
        """See ``Keys.rotate``."""
        request = rotate_request(key_id, overlap_seconds)
        return Key(await self._client.run(flows.document_of(request, self._client.policy)))

    async def revoke(self, key_id: str) -> None:
        """Make a key worthless at once."""
        await self._client.run(flows.nothing_of(flows.delete(path_of(key_id)), self._client.policy))
