"""``stream=true``: the text of a transcription as it becomes final, in OpenAI's events."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from api.access.caller import Caller
from api.dependencies import Services
from api.events import HEARTBEAT, as_long_as
from api.openai.answers import diarized_segments
from api.openai.fields import Fields
from api.problems import Problem
from api.routes.transcripts import build_transcript
from api.waiting import completed_job, despite_outages, follow
from db import transcripts
from db.models import Job
from speech.text.rendering.prose import join_segments, spaced_texts
from speech.text.transcript import Transcript
from speech.text.words import Segment

PROGRESS = b"\nevent: job.progress\n"


class TextStream:
    """The events of one job. Its deltas, one behind the other, are the text of the last event."""

    def __init__(self, services: Services, caller: Caller, job: Job, fields: Fields) -> None:
        self._services, self._caller, self._job, self._fields = services, caller, job, fields
        self._next_chunk = 0
        self._before = ""
        # segments of other channels, or divided between speakers, would come too late to stand in their order
        self._in_order = not fields.diarized and job.options.get("channels") != "split"

    async def events(self) -> AsyncGenerator[bytes]:
        """Encoded events, until the job or the caller's key ends."""
        async with aclosing(as_long_as(self._may_listen, follow(self._services, self._job))) as events:
            async for event in events:
                if event is HEARTBEAT:
                    yield event
                elif self._in_order and PROGRESS in event:
                    for delta in await despite_outages(self._job, self._new_deltas):
                        yield _event("transcript.text.delta", delta=delta)
        if self._may_listen():
            for event in await despite_outages(self._job, self._last):
                yield event

    def _may_listen(self) -> bool:
        return self._services.authenticator.holds(self._caller)

    def _new_deltas(self) -> list[str]:
        with self._services.for_tenant(self._job.tenant)() as session:
            next_chunk, rows = transcripts.aligned_segments(session, self._job.id, self._next_chunk)
        self._next_chunk = next_chunk
        return self._tell([Segment.from_json(row) for row in rows])

    def _tell(self, segments: list[Segment]) -> list[str]:
        deltas = [delta for delta in spaced_texts(segments, self._before) if delta]
        self._before = deltas[-1] if deltas else self._before
        return deltas

    def _last(self) -> list[bytes]:
        """What is left to tell, and the end; or why there is none."""
        try:
            transcript = self._transcript()
        except Problem as problem:
            return [_event("error", **problem.openai_body())]
        if self._fields.diarized:
            segments = diarized_segments(transcript, self._fields.known_speaker_names)
            rest = [_event(**segment) for segment in segments]
        else:
            rest = [_event("transcript.text.delta", delta=delta) for delta in self._rest(transcript)]
        return [*rest, _event("transcript.text.done", text=join_segments(transcript.segments))]

    def _transcript(self) -> Transcript:
        with self._services.for_tenant(self._job.tenant)() as session:
            return build_transcript(session, completed_job(session, self._job.tenant, self._job.id))

    def _rest(self, transcript: Transcript) -> list[str]:
        return self._tell([segment for segment in transcript.segments if segment.chunk >= self._next_chunk])


def _event(type: str, **data: Any) -> bytes:
    document = json.dumps({"type": type, **data}, ensure_ascii=False, separators=(",", ":"))
    return f"event: {type}\ndata: {document}\n\n".encode()
