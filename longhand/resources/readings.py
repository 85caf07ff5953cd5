"""Readings: what a language model makes of finished transcripts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

from longhand.api import path
from longhand.errors import JobFailed
from longhand.operations import Resource, TransportT, operation, stream
from longhand.types import Reading, ReadingKind, ReadingWithContent, Template


class Readings(Resource[TransportT]):
    @operation
    async def summarise(
        self, job_id: str, *, template: str | None = None, language: str | None = None, model: str | None = None
    ) -> Reading:
        """Have a transcript summarised; :meth:`wait` until it is."""
        return await self._start(job_id, "summaries", template=template, language=language, model=model)

    @operation
    async def ask(
        self, job_id: str, question: str, *, language: str | None = None, model: str | None = None
    ) -> Reading:
        """Ask about a transcript; :meth:`wait` for the answer."""
        return await self._start(job_id, "questions", question=question, language=language, model=model)

    @operation
    async def translate(self, job_id: str, language: str, *, model: str | None = None) -> Reading:
        """Have a transcript translated; then ``jobs.transcript_as(…, options={"language": …})`` has it."""
        return await self._start(job_id, "translations", language=language, model=model)

    async def _start(self, job_id: str, what: str, **given: str | None) -> Reading:
        body = {name: value for name, value in given.items() if value is not None}
        return cast(Reading, await self._api.json("POST", path("jobs", job_id, what), json=body))

    @operation
    async def wait(self, job_id: str, number: int, *, timeout: float | None = None) -> ReadingWithContent:
        """The reading once it is made. Raises JobFailed, or WaitTimeout after ``timeout`` seconds."""
        found: ReadingWithContent = await self._api.until(
            lambda: self._api.json("GET", path("jobs", job_id, "readings", number)),
            lambda reading: reading["status"] != "queued",
            timeout,
            f"Reading {number} of job {job_id}",
        )
        if error := found["error"]:
            raise JobFailed(cast("dict[str, object]", found), error["code"], error["message"])
        return found

    @operation
    async def get(self, job_id: str, number: int) -> ReadingWithContent:
        return cast(ReadingWithContent, await self._api.json("GET", path("jobs", job_id, "readings", number)))

    @stream
    async def list(self, job_id: str, kind: ReadingKind | None = None) -> AsyncIterator[Reading]:
        """Those of a job, the newest first."""
        found = await self._api.json("GET", path("jobs", job_id, "readings"), params={"kind": kind})
        for reading in found["data"]:
            yield reading

    @operation
    async def delete(self, job_id: str, number: int) -> None:
        await self._api.call("DELETE", path("jobs", job_id, "readings", number))

    @stream
    async def templates(self) -> AsyncIterator[Template]:
        """How the tenant wants its summaries, by name."""
        for template in (await self._api.json("GET", "/v1/templates"))["data"]:
            yield template

    @operation
    async def put_template(
        self,
        name: str,
        instructions: str,
        *,
        parts: tuple[str, ...] = ("title", "summary", "chapters", "actions"),
        sentences: int = 8,
    ) -> Template:
        """Make a template, or replace it."""
        body = {"instructions": instructions, "parts": list(parts), "sentences": sentences}
        return cast(Template, await self._api.json("PUT", path("templates", name), json=body))

    @operation
    async def delete_template(self, name: str) -> None:
        await self._api.call("DELETE", path("templates", name))
