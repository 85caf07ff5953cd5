"""The vocabulary: names and terms that recordings have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import cast

from longhand.api import path
from longhand.operations import Resource, TransportT, operation, stream
from longhand.types import Proposal, Term


class Vocabulary(Resource[TransportT]):
    @operation
    async def add(self, term: str, *, sounds_like: Sequence[str] = (), language: str | None = None) -> Term:
        """A name or term, and how it is misheard. Raises Conflict if it is there."""
        body = {"term": term, "sounds_like": list(sounds_like), "language": language}
        return cast(Term, await self._api.json("POST", "/v1/vocabulary", json=body))

    @operation
    async def reject(self, term: str) -> Term:
        """Have what was proposed not be proposed again."""
        return cast(Term, await self._api.json("POST", "/v1/vocabulary", json={"term": term, "accepted": False}))

    @stream
    async def list(self) -> AsyncIterator[Term]:
        """All terms by their spelling, rejected ones among them."""
        for term in (await self._api.json("GET", "/v1/vocabulary"))["data"]:
            yield term

    @stream
    async def proposals(self) -> AsyncIterator[Proposal]:
        """What people have corrected twice or more, the most frequent first."""
        for proposal in (await self._api.json("GET", "/v1/vocabulary/proposals"))["data"]:
            yield proposal

    @operation
    async def change(
        self, term_id: str, *, sounds_like: Sequence[str] | None = None, accepted: bool | None = None
    ) -> Term:
        """What is left out stays as it is."""
        given = {"sounds_like": sounds_like and list(sounds_like), "accepted": accepted}
        body = {name: value for name, value in given.items() if value is not None}
        return cast(Term, await self._api.json("PATCH", path("vocabulary", term_id), json=body, again=True))

    @operation
    async def delete(self, term_id: str) -> None:
        await self._api.call("DELETE", path("vocabulary", term_id))
