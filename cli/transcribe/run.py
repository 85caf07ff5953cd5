"""Transcribing what was found, several recordings at a time, going on from what was begun before."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from cli.command import Failed
from cli.transcribe.screen import Bar, Screen
from cli.transcribe.sources import Source
from cli.transcribe.state import State, file_of
from longhand import AsyncClient, Job, JobOptions, LonghandError, NotFound, Unreachable

NOBODY = str(uuid.UUID(int=0))
"""No upload has this id."""


class Outcome(StrEnum):
    TRANSCRIBED = "transcribed"
    ALREADY_DONE = "already done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one recording."""

    source: str
    outcome: Outcome
    files: tuple[str, ...] = ()
    job_id: str | None = None
    error: str | None = None
    unreachable: bool = False

    def to_json(self) -> dict[str, object]:
        return asdict(self)


class Transcription:
    """One run over many recordings."""

    def __init__(
        self,
        client: AsyncClient,
        options: JobOptions,
        formats: Sequence[str],
        states: Mapping[Path, State],
        screen: Screen,
        at_once: int,
    ) -> None:
        self._client, self._options, self._formats = client, options, formats
        self._states, self._screen = states, screen
        self._slots = asyncio.Semaphore(at_once)
        # copies of a recording are transcribed once
        self._works: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def check(self) -> None:
        """Raises ApiError for options that the server does not take, before anything is uploaded."""
        try:
            await self._client.jobs.submit_upload(NOBODY, self._options)
        except NotFound as error:
            if error.code != "upload_not_found":
                raise

    async def run(self, sources: Sequence[Source]) -> list[Result]:
        # in their order, so that names do not depend on which is read first
        for source in sources:
            # one that the file system does not take fails by itself
            with suppress(OSError):
                self._states[source.root].target(source, self._formats)
        return await asyncio.gather(*(self._one(source) for source in sources))

    async def _one(self, source: Source) -> Result:
        async with self._slots:
            bar = self._screen.begin(source.filename)
            try:
                result = await self._transcribe(source, bar)
            except (LonghandError, Failed, OSError) as error:
                unreachable = isinstance(error, Unreachable)
                result = Result(source.name, Outcome.FAILED, error=str(error), unreachable=unreachable)
            style = "red" if result.outcome == Outcome.FAILED else ""
            self._screen.end(bar, f"{result.outcome}: {source.name}{_remark(result)}", style=style)
            return result

    async def _transcribe(self, source: Source, bar: Bar) -> Result:
        state = self._states[source.root]
        sha256 = None if source.is_url else await self._digest(state, source)
        key = _key(sha256 or source.name, self._options)
        base = state.target(source, self._formats)
        files = tuple(str(file_of(base, each)) for each in self._formats)
        missing = [each for each in self._formats if not state.is_done(source, each, key)]
        if not missing:
            return Result(source.name, Outcome.ALREADY_DONE, files, state.work(key).get("id"))
        async with self._works[f"{source.root} {key}"]:
            job = await self._job(state, source, key, sha256, bar)
            job = await self._client.jobs.wait(job["id"], on_progress=bar.following)
        for each in missing:
            content = await self._client.jobs.transcript_as(job["id"], each)
            state.claim(source, each)
            _write(file_of(base, each), content)
            state.note_done(source, each, key)
        return Result(source.name, Outcome.TRANSCRIBED, files, job["id"])

    async def _digest(self, state: State, source: Source) -> str:
        stat = source.path.stat()
        known = state.digest(source, stat)
        if known is None:
            known = await asyncio.to_thread(_sha256, source.path)
            state.note_digest(source, stat, known)
        return known

    async def _job(self, state: State, source: Source, key: str, sha256: str | None, bar: Bar) -> Job:
        """The job that was begun before, set going again if it had failed; else a new one."""
        begun = state.work(key).get("id")
        if begun is not None:
            try:
                job = await self._client.jobs.get(begun)
                return await self._client.jobs.retry(begun) if job["status"] in ("failed", "cancelled") else job
            except NotFound:
                # it is yet to be made, or was deleted
                pass
        if not source.is_url:
            upload_id = await self._upload(state, source, key, begun, sha256)
            await self._client.uploads.send(upload_id, source.path, on_progress=bar.uploading)
            return await self._client.jobs.submit_upload(upload_id, self._options)
        once = (state.work(key).get("idempotency_key") if begun is None else None) or uuid.uuid4().hex
        state.note_work(key, idempotency_key=once)
        job = await self._client.jobs.submit_url(source.name, self._options, idempotency_key=once)
        state.note_work(key, id=job["id"])
        return job

    async def _upload(self, state: State, source: Source, key: str, begun: str | None, sha256: str | None) -> str:
        """The id of the upload that was begun before, or of a new one; its job will have it too."""
        if begun is not None:
            try:
                return (await self._client.uploads.get(begun))["id"]
            except NotFound:
                # it has expired
                pass
        upload_id = (await self._client.uploads.create(source.path, sha256=sha256))["id"]
        state.note_work(key, id=upload_id)
        return upload_id


def _key(content: str, options: JobOptions) -> str:
    """What a recording's transcription depends on."""
    return hashlib.sha256(json.dumps([content, options], sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(file: Path, content: bytes) -> None:
    """The file is there whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    part.write_bytes(content)
    part.replace(file)


def _remark(result: Result) -> str:
    if result.error:
        return f": {result.error}"
    # what was done before was told before
    return "".join(f"\n  {file}" for file in result.files) if result.outcome == Outcome.TRANSCRIBED else ""
