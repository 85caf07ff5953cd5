"""Jobs: recordings on their way to transcripts."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import httpx

from longhand import uploading
from longhand.api import parse, path
from longhand.downloads import download
from longhand.errors import JobFailed
from longhand.events import follow
from longhand.files import CountedFile, OnProgress, Source
from longhand.operations import Resource, TransportT, operation, stream
from longhand.types import (
    BulkAction,
    BulkResult,
    Event,
    Job,
    JobChange,
    JobFilter,
    JobOptions,
    JobStatus,
    Link,
    NewLink,
    Segment,
    Speaker,
    Transcript,
)

MOST_AT_ONCE = 1000
"""Jobs that one request may name."""

RESUMABLE_BYTES = 16 * 1024 * 1024
"""Recordings from this size on are uploaded piece by piece where the server can do that."""

UPLOAD_TIMEOUT = httpx.Timeout(600, connect=5)
"""The server answers once the last byte is stored."""

BULK_TIMEOUT = httpx.Timeout(600, connect=5)
"""The server answers once the last of them is changed."""

FINISHED = ("completed", "failed", "cancelled")


class Jobs(Resource[TransportT]):
    @operation
    async def submit(
        self,
        recording: str | os.PathLike[str] | bytes,
        options: JobOptions | None = None,
        *,
        filename: str | None = None,
        idempotency_key: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Job:
        """Upload a recording, read as it is sent: a path, or its bytes. Returns the job as soon as it is stored.

        A broken upload is resumed if the recording is large, else sent again; either way it makes one job. The
        same ``idempotency_key`` with the same recording and options answers with the job it made first, and has it
        sent as a whole, however large.
        """
        source = Source(recording, filename)
        once = idempotency_key or uuid.uuid4().hex
        # an upload has an id of its own, under which a key that was used before would not be known
        if idempotency_key is None and source.size() >= RESUMABLE_BYTES:
            upload = await uploading.create(self._api, source, None)
            if upload is not None:
                await uploading.send(self._api, upload, source, on_progress)
                return await self._of_upload(upload["id"], options, once)
        return await self._by_form(source, options, once, on_progress)

    async def _by_form(
        self, source: Source, options: JobOptions | None, once: str, on_progress: OnProgress | None
    ) -> Job:
        with source.open() as file:

            def make() -> httpx.Request:
                body = CountedFile(file, on_progress)
                return self._api.request(
                    "POST",
                    "/v1/jobs",
                    data={"options": json.dumps(options or {})},
                    files={"file": (source.filename, body, "application/octet-stream")},
                    headers={"Idempotency-Key": once},
                    timeout=UPLOAD_TIMEOUT,
                )

            return cast(Job, parse(await self._api.send(make, again=True)))

    async def _of_upload(self, upload_id: str, options: JobOptions | None, once: str | None) -> Job:
        return await self._by_json({"upload_id": upload_id, "options": options or {}}, once)

    async def _by_json(self, body: dict[str, Any], once: str | None) -> Job:
        headers = {"Idempotency-Key": once or uuid.uuid4().hex}
        return cast(Job, await self._api.json("POST", "/v1/jobs", json=body, headers=headers, again=True))

    @operation
    async def submit_url(
        self, url: str, options: JobOptions | None = None, *, idempotency_key: str | None = None
    ) -> Job:
        """Have the server fetch a recording: ``https://…``, or ``s3://bucket/key`` where it allows that."""
        return await self._by_json({"audio_url": url, "options": options or {}}, idempotency_key)

    @operation
    async def submit_upload(
        self, upload_id: str, options: JobOptions | None = None, *, idempotency_key: str | None = None
    ) -> Job:
        """Make the job of an upload that is complete, which has its id."""
        return await self._of_upload(upload_id, options, idempotency_key)

    @operation
    async def get(self, job_id: str) -> Job:
        return cast(Job, await self._api.json("GET", path("jobs", job_id)))

    @stream
    def list(
        self,
        *,
        status: JobStatus | None = None,
        search: str | None = None,
        tag: str | None = None,
        collection: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Job]:
        """Jobs, newest first: all, or ``limit``. ``search``: with this in the recording's title, name or source.
        ``collection``: in the one with this id."""
        params = {"status": status, "q": search, "tag": tag, "collection": collection}
        return self._api.pages("/v1/jobs", limit=limit, params=params)

    @operation
    async def describe(self, job_id: str, change: JobChange) -> Job:
        """Give the recording a ``title``, all of its ``tags``, or another ``source``."""
        return cast(Job, await self._api.json("PATCH", path("jobs", job_id), json=change, again=True))

    @stream
    async def bulk(
        self,
        action: BulkAction,
        *,
        jobs: Sequence[str] | None = None,
        matching: JobFilter | None = None,
        search: str | None = None,
        tags: Sequence[str] = (),
        collection: str | None = None,
    ) -> AsyncIterator[BulkResult]:
        """Do the same with many jobs, a thousand in a request: ``jobs`` by id, those ``matching``, or those that a
        saved ``search`` finds. ``tags`` are for ``tag`` and ``untag``, a ``collection`` for ``collect`` and
        ``take_out``. Every job has its result, whatever becomes of the others."""
        wanted = _given(action=action, collection=collection) | {"tags": [*tags]}
        if jobs is not None:
            for begin in range(0, len(jobs), MOST_AT_ONCE):
                part = {"jobs": [*jobs[begin : begin + MOST_AT_ONCE]]}
                for result in (await self._bulk(wanted | part))["results"]:
                    yield result
            return
        wanted |= _given(filter=matching, search=search)
        while True:
            answer = await self._bulk(wanted)
            for result in answer["results"]:
                yield result
            if answer["next_cursor"] is None:
                return
            wanted["cursor"] = answer["next_cursor"]

    async def _bulk(self, wanted: Mapping[str, object]) -> Any:
        # what is done twice is as if it was done once
        return await self._api.json("POST", path("jobs", "bulk"), json=wanted, again=True, timeout=BULK_TIMEOUT)

    @operation
    async def transcripts(
        self,
        *,
        jobs: Sequence[str] | None = None,
        matching: JobFilter | None = None,
        search: str | None = None,
        format: str = "txt",
    ) -> bytes:
        """Transcripts of many jobs, as one zip: ``jobs`` by id, those ``matching``, or those that a saved
        ``search`` finds; five thousand at most."""
        wanted = _given(jobs=jobs and [*jobs], filter=matching, search=search, format=format)
        return (await self._api.call("POST", path("jobs", "bulk", "transcripts"), json=wanted)).content

    @operation
    async def share(self, job_id: str, *, expires_in: float | None = None, audio: bool = True) -> NewLink:
        """Make a link to the transcript for ``expires_in`` seconds (a week): its ``path`` is to be handed on."""
        body = _given(expires_in=expires_in, audio=audio)
        return cast(NewLink, await self._api.json("POST", path("jobs", job_id, "links"), json=body))

    @stream
    async def links(self, job_id: str) -> AsyncIterator[Link]:
        """Its links, newest first, those that have ended among them."""
        for link in (await self._api.json("GET", path("jobs", job_id, "links")))["data"]:
            yield link

    @operation
    async def revoke_link(self, job_id: str, link_id: str) -> None:
        await self._api.call("DELETE", path("jobs", job_id, "links", link_id))

    @operation
    async def cancel(self, job_id: str) -> Job:
        """Stop it; what is drafted stays readable."""
        return cast(Job, await self._api.json("POST", path("jobs", job_id, "cancel")))

    @operation
    async def retry(self, job_id: str) -> Job:
        """Run a failed or cancelled job again, from the steps that are done."""
        return cast(Job, await self._api.json("POST", path("jobs", job_id, "retry")))

    @operation
    async def delete(self, job_id: str) -> None:
        """Remove it with its recording and its transcript."""
        await self._api.call("DELETE", path("jobs", job_id))

    @operation
    async def wait(
        self,
        job_id: str,
        *,
        timeout: float | None = None,
        on_progress: Callable[[Job], object] | None = None,
    ) -> Job:
        """The job once it is completed. Raises JobFailed, or WaitTimeout after ``timeout`` seconds.

        ``on_progress`` is called with the job as often as the server was asked.
        """
        found: Job = await self._api.until(
            lambda: self._api.json("GET", path("jobs", job_id)),
            lambda job: job["status"] in FINISHED,
            timeout,
            f"Job {job_id}",
            on_progress,
        )
        if found["status"] != "completed":
            error = found["error"] or {"code": found["status"], "message": f"The job was {found['status']}."}
            raise JobFailed(cast("dict[str, object]", found), error["code"], error["message"])
        return found

    @stream
    def events(self, job_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        """The events behind number ``after``, live until the job's last. A lost connection is resumed."""
        return follow(self._api, job_id, after)

    @operation
    async def transcript(self, job_id: str) -> Transcript:
        """The transcript; drafts included until the job is completed."""
        return cast(Transcript, await self._api.json("GET", path("jobs", job_id, "transcript")))

    @operation
    async def transcript_as(self, job_id: str, format: str, options: Mapping[str, object] | None = None) -> bytes:
        """The transcript as a file: ``srt``, ``vtt``, ``txt`` and so on, with ``options`` of that format."""
        params = {**(options or {}), "format": format}
        return (await self._api.call("GET", path("jobs", job_id, "transcript"), params=params)).content

    @operation
    async def download_audio(self, job_id: str, target: str | os.PathLike[str]) -> Path:
        """Write the recording, as it was uploaded, to a file, which is there once it is whole."""
        return await download(self._api, path("jobs", job_id, "audio"), target)

    @operation
    async def correct(
        self,
        job_id: str,
        index: int,
        *,
        text: str | None = None,
        speaker: str | None = None,
        version: int | None = None,
    ) -> Segment:
        """Correct the text or the speaker of a final segment; its own text confirms it.

        With ``version``, of the segment as it was seen, a change that somebody else has made since is not lost:
        raises Conflict with ``segment_changed``.
        """
        body = _given(text=text, speaker=speaker, version=version)
        # the same correction twice is one, unless it names the version before
        again = version is None
        url = path("jobs", job_id, "segments", index)
        return cast(Segment, await self._api.json("PATCH", url, json=body, again=again))

    @operation
    async def revert(self, job_id: str, index: int, *, version: int | None = None) -> Segment:
        """Give a segment the text that the models wrote."""
        url = path("jobs", job_id, "segments", index, "revert")
        return cast(Segment, await self._api.json("POST", url, json=_given(version=version)))

    @operation
    async def split(self, job_id: str, index: int, at: int, *, version: int | None = None) -> Sequence[Segment]:
        """Divide a segment behind its first ``at`` words. Returns both parts."""
        url = path("jobs", job_id, "segments", index, "split")
        answer = await self._api.json("POST", url, json=_given(at=at, version=version))
        return cast("Sequence[Segment]", answer["segments"])

    @operation
    async def merge(self, job_id: str, index: int, next: int, *, version: int | None = None) -> Segment:
        """Join a segment with the one that follows it in time."""
        url = path("jobs", job_id, "segments", index, "merge")
        answer = await self._api.json("POST", url, json=_given(next=next, version=version))
        return cast("Sequence[Segment]", answer["segments"])[0]

    @operation
    async def name_speaker(
        self, job_id: str, label: str, *, name: str | None = None, voice_id: str | None = None
    ) -> Sequence[Speaker]:
        """Say who a speaker is: by a name, or by an enrolled voice; by neither, who it is is forgotten."""
        who = {"name": name} if voice_id is None else {"voice_id": voice_id}
        url = path("jobs", job_id, "speakers")
        answer = await self._api.json("PATCH", url, json={"label": label, **who}, again=True)
        return cast("Sequence[Speaker]", answer["speakers"])

    @operation
    async def merge_speakers(self, job_id: str, label: str, into: str) -> Sequence[Speaker]:
        """Give the speaker ``into`` all that ``label`` said."""
        url = path("jobs", job_id, "speakers", "merge")
        answer = await self._api.json("POST", url, json={"label": label, "into": into})
        return cast("Sequence[Speaker]", answer["speakers"])


def _given(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}
