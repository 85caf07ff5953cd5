"""Erasures: of a person, and certificates of all that was erased."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

from longhand.api import path
from longhand.errors import JobFailed
from longhand.operations import Resource, TransportT, operation, stream
from longhand.types import Erasure


class Erasures(Resource[TransportT]):
    @operation
    async def create(
        self,
        *,
        name: str | None = None,
        voice_id: str | None = None,
        similar: bool = False,
        dry_run: bool = False,
    ) -> Erasure:
        """Erase a person, of whom either the name or the voice is given, or tell what that would remove."""
        who = {"name": name} if voice_id is None else {"voice_id": voice_id}
        body = {**who, "similar": similar, "dry_run": dry_run}
        # what is gone cannot go again
        return cast(Erasure, await self._api.json("POST", "/v1/erasures", json=body, again=True))

    @operation
    async def wait(self, erasure_id: str, *, timeout: float | None = None) -> Erasure:
        """The certificate, once it is done. Raises JobFailed, or WaitTimeout after ``timeout`` seconds."""
        found: Erasure = await self._api.until(
            lambda: self._api.json("GET", path("erasures", erasure_id)),
            lambda erasure: erasure["status"] != "pending",
            timeout,
            f"Erasure {erasure_id}",
        )
        if error := found["error"]:
            raise JobFailed(cast("dict[str, object]", found), error["code"], error["message"])
        return found

    @stream
    def list(self, *, subject: str | None = None, limit: int | None = None) -> AsyncIterator[Erasure]:
        """Erasures, newest first: all of them, or ``limit``; of one ``subject``, such as a job's id."""
        return self._api.pages("/v1/erasures", limit=limit, params={"subject": subject})

    @operation
    async def get(self, erasure_id: str) -> Erasure:
        return cast(Erasure, await self._api.json("GET", path("erasures", erasure_id)))
