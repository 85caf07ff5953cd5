"""Transcribing what was found, several recordings at a time, going on from what was begun before."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

from cli.command import Failed
from cli.transcribe.files import read_sidecar, sidecar_of, write_whole
from cli.transcribe.screen import Bar, Screen
from cli.transcribe.source import Source
from cli.transcribe.state import State, file_of
from db.recordings import BadSidecar
from longhand import (
    ApiError,
    AsyncClient,
    InvalidRequest,
    Job,
    JobFailed,
    JobOptions,
    LonghandError,
    NotFound,
    Unauthorized,
    Unreachable,
)

NOBODY = str(uuid.UUID(int=0))
"""No upload has this id."""

NOTE = "error.json"
"""What says beside a transcript's place why there is none; treated like one of its formats."""

BLOCK_BYTES = 16 * 1024 * 1024


class Outcome(StrEnum):
    TRANSCRIBED = "transcribed"
    ALREADY_DONE = "already done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one recording."""

    source: Source
    outcome: Outcome
    files: tuple[str, ...] = ()
    job_id: str | None = None
    remark: str = ""
    cause: Exception | None = None

    @property
    def error(self) -> str | None:
        if self.cause is None:
            return None
        return f"{self.source.row}: {self.cause}" if self.source.row else str(self.cause)

    @property
    def unreachable(self) -> bool:
        return isinstance(self.cause, Unreachable)

    @property
    def is_put_off(self) -> bool:
        """Whether it says nothing of the recording: the server is away, or the key has ended."""
        return isinstance(self.cause, Unreachable | Unauthorized)

    @property
    def is_lasting(self) -> bool:
        """Whether it fails again unless the recording or its options change."""
        match self.cause:
            case JobFailed():
                return self.cause.code.startswith("audio_")
            case InvalidRequest():
                return self.cause.status != HTTPStatus.REQUEST_TIMEOUT
            case _:
                return isinstance(self.cause, BadOptions)

    def to_json(self) -> dict[str, object]:
        return {
            "source": self.source.shown,
            "outcome": self.outcome,
            "files": self.files,
            "job_id": self.job_id,
            "error": self.error,
            "code": self.cause.code if isinstance(self.cause, ApiError | JobFailed) else None,
            "unreachable": self.unreachable,
        }

    def cells(self) -> list[str]:
        """For the results of a batch."""
        return [self.outcome, " ".join(self.files), self.job_id or "", self.error or ""]


class BadOptions(Failed):
    """Those of one recording."""


class Transcription:
    """One run over many recordings.

    ``unattended``: nobody reads the screen and starts it again. A failure is noted beside where the transcript
    would be; one that lasts is not tried again as long as the note is there. Transcripts that were taken away are
    not written again.
    """

    def __init__(
        self,
        client: AsyncClient,
        options: Mapping[str, Any],
        formats: Sequence[str],
        states: Mapping[Path, State],
        screen: Screen,
        at_once: int,
        *,
        unattended: bool = False,
    ) -> None:
        self._client, self._options, self._formats = client, options, formats
        self._states, self._screen, self._unattended = states, screen, unattended
        self._slots = asyncio.Semaphore(at_once)
        # copies of a recording are transcribed once
        self._works: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def check(self) -> None:
        """Raises ApiError for options that the server does not take, before anything is uploaded."""
        await self._check(self._options)

    async def _check(self, options: Mapping[str, Any]) -> None:
        try:
            await self._client.jobs.submit_upload(NOBODY, cast(JobOptions, options))
        except NotFound as error:
            if error.code != "upload_not_found":
                raise

    async def run(self, sources: Sequence[Source]) -> list[Result]:
        self.name(sources)
        return await asyncio.gather(*map(self.one, sources))

    def name(self, sources: Sequence[Source]) -> None:
        """Decide what transcripts are called: in order, so that it does not depend on which is read first."""
        for source in sources:
            # one that the file system does not take fails by itself
            with suppress(OSError):
                self._states[source.root].target(source, self._formats)

    async def one(self, source: Source) -> Result:
        """What became of it, told on the screen."""
        async with self._slots:
            bar = self._screen.begin(source.filename)
            work = _Work(source, self._states[source.root])
            try:
                result = await self._transcribe(work, bar)
            except (LonghandError, Failed, OSError) as error:
                result = Result(source, Outcome.FAILED, cause=error)
                # of a recording that is gone nothing is wanted
                if self._unattended and not result.is_put_off and source.path.exists():
                    self._note(work, result)
            self._screen.end(bar, self._line(result), style="red" if result.cause else "")
            return result

    def _line(self, result: Result) -> str | None:
        if self._unattended and (result.outcome == Outcome.ALREADY_DONE or result.is_put_off):
            return None
        return f"{result.outcome}: {result.source.shown}{_remark(result)}"

    async def _transcribe(self, work: _Work, bar: Bar) -> Result:
        source, state = work.source, work.state
        work.options = self._options_of(source)
        sha256 = None if source.is_url else await self._digest(state, source)
        work.key = key = _key(sha256 or source.name, work.options)
        base = state.target(source, self._formats)
        files = tuple(str(file_of(base, each)) for each in self._formats)
        there = not self._unattended
        missing = [each for each in self._formats if not state.is_done(source, each, key, there=there)]
        if not missing or (self._unattended and state.is_done(source, NOTE, key)):
            return Result(source, Outcome.ALREADY_DONE, files, state.work(key).get("id"))
        async with self._works[f"{source.root} {key}"]:
            job = await self._job(work, sha256, bar)
            job = await self._client.jobs.wait(job["id"], on_progress=bar.following)
        anew = any(state.is_of_another(source, each, key) for each in missing)
        for each in missing:
            content = await self._client.jobs.transcript_as(job["id"], each)
            state.claim(source, each)
            write_whole(file_of(base, each), content)
            state.note_done(source, each, key)
        if state.is_claimed(source, NOTE):
            file_of(base, NOTE).unlink(missing_ok=True)
        remarks = {
            "made anew, since it or its options have changed": anew,
            "nobody is heard to speak": not job["progress"]["chunks"],
        }
        remark = "; ".join(said for said, holds in remarks.items() if holds)
        return Result(source, Outcome.TRANSCRIBED, files, job["id"], remark)

    def _options_of(self, source: Source) -> Mapping[str, Any]:
        """For all, overridden by the file beside the recording, and that by the row that names it."""
        sidecar = None if source.is_url else sidecar_of(source.path)
        try:
            beside = read_sidecar(sidecar) if sidecar else {}
        except BadSidecar as error:
            raise BadOptions(f"{sidecar}: {error}.") from error
        return {**self._options, **beside, **(source.row.options if source.row else {})}

    def _note(self, work: _Work, result: Result) -> None:
        """Say beside the transcript's place why there is none. The screen has said it, if that is not possible."""
        source, state = work.source, work.state
        with suppress(OSError, Failed):
            base = state.target(source, self._formats)
            state.claim(source, NOTE)
            write_whole(file_of(base, NOTE), json.dumps(result.to_json(), indent=2).encode())
            if result.is_lasting and work.key:
                state.note_done(source, NOTE, work.key)

    async def _digest(self, state: State, source: Source) -> str:
        stat = source.path.stat()
        known = state.digest(source, stat)
        if known is None:
            known = await _sha256(source.path)
            state.note_digest(source, stat, known)
        return known

    async def _job(self, work: _Work, sha256: str | None, bar: Bar) -> Job:
        """The job that was begun before, set going again if it had failed; else a new one."""
        source, state, key = work.source, work.state, work.key
        options = cast(JobOptions, work.options)
        begun = state.work(key).get("id")
        if begun is not None:
            try:
                job = await self._client.jobs.get(begun)
                return await self._client.jobs.retry(begun) if job["status"] in ("failed", "cancelled") else job
            except NotFound:
                # it is yet to be made, or was deleted
                pass
        if work.options != self._options:
            await self._check_own(work)
        if not source.is_url:
            upload_id = await self._upload(state, source, key, begun, sha256)
            await self._client.uploads.send(upload_id, source.path, on_progress=bar.uploading)
            return await self._client.jobs.submit_upload(upload_id, options)
        once = (state.work(key).get("idempotency_key") if begun is None else None) or uuid.uuid4().hex
        state.note_work(key, idempotency_key=once)
        job = await self._client.jobs.submit_url(source.name, options, idempotency_key=once)
        state.note_work(key, id=job["id"])
        return job

    async def _check_own(self, work: _Work) -> None:
        """Raises BadOptions before anything is uploaded."""
        try:
            await self._check(work.options)
        except InvalidRequest as error:
            beside = sidecar_of(work.source.path) if work.source.row is None else None
            raise BadOptions(f"{beside}: {error}" if beside else str(error)) from error

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


@dataclass(slots=True)
class _Work:
    """What is known so far of one recording."""

    source: Source
    state: State
    options: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""
    """What its transcription depends on; empty until that is known."""


def _key(content: str, options: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([content, options], sort_keys=True).encode()).hexdigest()


async def _sha256(path: Path) -> str:
    """In blocks, between which it can be cancelled."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := await asyncio.to_thread(file.read, BLOCK_BYTES):
            await asyncio.to_thread(digest.update, block)
    return digest.hexdigest()


def _remark(result: Result) -> str:
    if result.error:
        return f": {result.error}"
    if result.outcome == Outcome.ALREADY_DONE:
        # what was done before was told before
        return ""
    return (f" ({result.remark})" if result.remark else "") + "".join(f"\n  {file}" for file in result.files)
