"""Voices: people whom transcripts call by name."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import cast

import httpx

from longhand.api import parse, path
from longhand.errors import JobFailed
from longhand.files import CountedFile, Source
from longhand.operations import Resource, TransportT, operation, stream
from longhand.resources.jobs import UPLOAD_TIMEOUT
from longhand.types import Heard, Voice


class Voices(Resource[TransportT]):
    @operation
    async def enrol(
        self, name: str, recording: str | os.PathLike[str] | bytes, *, filename: str | None = None
    ) -> Voice:
        """Enrol somebody from five seconds or more of them alone; :meth:`wait` until the voice is known."""
        source = Source(recording, filename)
        with source.open() as file:

            def make() -> httpx.Request:
                files = {"file": (source.filename, CountedFile(file, None), "application/octet-stream")}
                return self._api.request(
                    "POST", "/v1/voices", data={"name": name}, files=files, timeout=UPLOAD_TIMEOUT
                )

            return cast(Voice, parse(await self._api.send(make)))

    @operation
    async def wait(self, voice_id: str, *, timeout: float | None = None) -> Voice:
        """The voice once it is ready. Raises JobFailed, or WaitTimeout after ``timeout`` seconds."""
        found: Voice = await self._api.until(
            lambda: self._api.json("GET", path("voices", voice_id)),
            lambda voice: voice["status"] != "pending",
            timeout,
            f"Voice {voice_id}",
        )
        if error := found["error"]:
            raise JobFailed(cast("dict[str, object]", found), error["code"], error["message"])
        return found

    @stream
    async def list(self) -> AsyncIterator[Voice]:
        for voice in (await self._api.json("GET", "/v1/voices"))["data"]:
            yield voice

    @operation
    async def get(self, voice_id: str) -> Voice:
        return cast(Voice, await self._api.json("GET", path("voices", voice_id)))

    @stream
    async def heard(self, voice_id: str, *, limit: int = 20) -> AsyncIterator[Heard]:
        """Where it was heard: the newest ``limit`` recordings, 100 at most."""
        for heard in (await self._api.json("GET", path("voices", voice_id, "heard"), params={"limit": limit}))[
            "data"
        ]:
            yield heard

    @operation
    async def change(self, voice_id: str, *, name: str | None = None, training: bool | None = None) -> Voice:
        """Rename it, or say whether its speech may become training data. Stored transcripts keep the old name."""
        given = {"name": name, "training": training}
        body = {key: value for key, value in given.items() if value is not None}
        return cast(Voice, await self._api.json("PATCH", path("voices", voice_id), json=body, again=True))

    @operation
    async def delete(self, voice_id: str) -> None:
        """Forget it with its vector."""
        await self._api.call("DELETE", path("voices", voice_id))
