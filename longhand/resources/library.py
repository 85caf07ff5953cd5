"""Order among recordings: collections, and searches that are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import cast

from longhand.api import path
from longhand.operations import Resource, TransportT, operation, stream
from longhand.types import Collection, SavedSearch


class Collections(Resource[TransportT]):
    @stream
    async def list(self) -> AsyncIterator[Collection]:
        """All of them, by name."""
        for collection in (await self._api.json("GET", "/v1/collections"))["data"]:
            yield collection

    @operation
    async def create(self, name: str) -> Collection:
        return cast(Collection, await self._api.json("POST", "/v1/collections", json={"name": name}))

    @operation
    async def get(self, collection_id: str) -> Collection:
        return cast(Collection, await self._api.json("GET", path("collections", collection_id)))

    @operation
    async def rename(self, collection_id: str, name: str) -> Collection:
        url = path("collections", collection_id)
        return cast(Collection, await self._api.json("PATCH", url, json={"name": name}, again=True))

    @operation
    async def delete(self, collection_id: str) -> None:
        """Forget it; its recordings stay."""
        await self._api.call("DELETE", path("collections", collection_id))

    @operation
    async def change(
        self, collection_id: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> Collection:
        """Put jobs into it, or take them out of it: a thousand of each at most."""
        body = {"add": [*add], "remove": [*remove]}
        url = path("collections", collection_id, "jobs")
        return cast(Collection, await self._api.json("PATCH", url, json=body, again=True))

    @operation
    async def transcripts(self, collection_id: str, format: str = "txt") -> bytes:
        """The transcripts of its recordings, as one zip."""
        url = path("collections", collection_id, "transcripts")
        return (await self._api.call("GET", url, params={"format": format})).content


class Searches(Resource[TransportT]):
    @stream
    async def list(self) -> AsyncIterator[SavedSearch]:
        """Those that are kept, by name."""
        for search in (await self._api.json("GET", "/v1/searches"))["data"]:
            yield search

    @operation
    async def save(self, name: str, query: Mapping[str, str]) -> SavedSearch:
        """Keep a search: the parameters of ``GET /v1/search``."""
        body = {"name": name, "query": {**query}}
        return cast(SavedSearch, await self._api.json("POST", "/v1/searches", json=body))

    @operation
    async def delete(self, search_id: str) -> None:
        await self._api.call("DELETE", path("searches", search_id))
