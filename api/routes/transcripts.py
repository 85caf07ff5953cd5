"""The transcript of a job, in every format."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, Field, model_validator
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access.audit import note
from api.dependencies import CallerDep, CurrentJob, Services, ServicesDep, needs
from api.downloads import attachment
from api.problems import Problem
from api.schemas import KnownLanguage
from api.transcript_views import TranscriptView
from db import readings, speakers, transcripts
from db.models import Chunk, Job, JobStatus, Json, Role, Scope, StoredHypothesis
from db.objects.storage import ObjectMissing
from db.secrets import Secrets, SecretsLocked
from speech.asr.alignment.segments import draft_segments
from speech.text.formats import LAYOUT_OPTIONS, Format, render, to_json
from speech.text.redaction.redact import Original, restore
from speech.text.rendering.cues import DEFAULT_LAYOUT, Layout
from speech.text.retiming import reword
from speech.text.timeline import Timeline
from speech.text.transcript import Speaker, Transcript
from speech.text.words import Hypothesis, Segment, Source, Turn, channel_speaker

CONTENT = {
    format_.media_type.partition(";")[0]: {
        "schema": {"type": "string"} | ({"format": "binary"} if format_ is Format.DOCX else {})
    }
    for format_ in Format
    if format_ is not Format.JSON
}

MIN_PACKED_BYTES = 16 * 1024
PACKING = 1
"""Level of gzip. Ten hours as JSON are 8 MB, and 1.6 MB after 50 ms; higher levels gain little."""

router = APIRouter(prefix="/v1/jobs/{job_id}", dependencies=[needs(Scope.JOBS_READ)], tags=["results"])


class TranscriptQuery(BaseModel):
    """A format, and how it is to look."""

    format: Format = Format.JSON
    max_line_width: int | None = Field(
        DEFAULT_LAYOUT.max_line_width,
        ge=10,
        le=200,
        description="Columns of a line of subtitles, where wide characters take two. By default 42, or 32 with "
        "Chinese or Japanese.",
    )
    max_lines: int = Field(DEFAULT_LAYOUT.max_lines, ge=1, le=4, description="Lines of a cue.")
    max_reading_speed: float = Field(
        DEFAULT_LAYOUT.max_reading_speed,
        ge=5,
        le=100,
        description="Columns a second: a cue stays so long, where the next one leaves it.",
    )
    min_duration: float = Field(
        DEFAULT_LAYOUT.min_duration, ge=0.2, le=10, description="Seconds of a cue, where the next one leaves it."
    )
    max_duration: float = Field(DEFAULT_LAYOUT.max_duration, ge=1, le=60, description="Seconds of a cue.")
    speaker_names: bool = Field(DEFAULT_LAYOUT.speaker_names, description="Whether subtitles say who speaks.")
    bom: bool = Field(False, description="Begin a table with a byte order mark, which Excel needs.")
    language: KnownLanguage | None = Field(
        None, description="Translated: see `POST …/translations`. What was changed since is as it was translated."
    )
    original: bool = Field(
        False, description="With what redaction took out, where that is kept. Needs the scope `admin`."
    )

    @model_validator(mode="after")
    def _fit(self) -> TranscriptQuery:
        if wrong := sorted(self.model_fields_set - {"format", "original", "language"} - self.format.options):
            raise ValueError(f"`{self.format}` does not take {', '.join(f'`{name}`' for name in wrong)}")
        if self.min_duration > self.max_duration:
            raise ValueError("`min_duration` is above `max_duration`")
        if self.original and self.language is not None:
            raise ValueError("a translation has no `original`")
        return self

    @property
    def plain(self) -> bool:
        """Whether it asks for what is stored."""
        return self == TranscriptQuery(format=self.format)

    def layout(self) -> Layout:
        return Layout(**self.model_dump(include=set(LAYOUT_OPTIONS)))


@router.get(
    "/transcript",
    response_class=Response,
    responses={
        200: {
            "model": TranscriptView,
            "content": CONTENT,
            "headers": {"Last-Event-ID": {"schema": {"type": "integer"}}},
        }
    },
)
def show_transcript(
    request: Request,
    job: CurrentJob,
    services: ServicesDep,
    caller: CallerDep,
    query: Annotated[TranscriptQuery, Query()],
    accept_encoding: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """The transcript. Until the job is completed, the segments so far, drafts included.

    `Last-Event-ID` is the number of the job's newest event that it has the outcome of; with the events behind that
    a client keeps it up to date.
    """
    if query.original:
        caller.require([Scope.ADMIN])
        note(request, "with originals")
    headers = attachment(job.shown_name, query.format.ending)
    # read before the rows, which hold what it told and perhaps more
    headers["Last-Event-ID"] = str(job.event_seq)
    body = transcript_file(job, services, query)
    if len(body) >= MIN_PACKED_BYTES and "gzip" in accept_encoding:
        body = gzip.compress(body, PACKING, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Response(body, media_type=query.format.media_type, headers=headers | {"Vary": "Accept-Encoding"})


def transcript_file(job: Job, services: Services, query: TranscriptQuery) -> bytes:
    """The transcript as it is now. Raises Problem."""
    stored = _stored(job, services, query)
    return _rendered(job, services, query) if stored is None else stored


def _stored(job: Job, services: Services, query: TranscriptQuery) -> bytes | None:
    """The file that the completed job has of it, if any."""
    if not (job.status == JobStatus.COMPLETED and query.format.stored and query.plain):
        return None
    try:
        return services.storage.get(f"{job.transcript_prefix}{query.format.file_name}")
    except ObjectMissing:
        return None


def _rendered(job: Job, services: Services, query: TranscriptQuery) -> bytes:
    """From the rows, which hold everything that the files do."""
    with services.for_tenant(job.tenant)() as session:
        if query.format is Format.JSON and not query.original and query.language is None:
            # as the rows are: made into segments and back, ten hours would take three times as long
            return to_json(_without_segments(session, job), _segments(session, job))
        built = build_transcript(session, job)
        if query.original:
            built = _with_originals(session, job, built, services.secrets)
        if query.language is not None:
            built = _translated(session, job, built, query.language)
    # the connection is free again: a document of many hours takes seconds
    return render(built, query.format, query.layout(), bom=query.bom)


def _translated(session: Session, job: Job, built: Transcript, language: str) -> Transcript:
    """Raises Problem where there is no translation. A segment that came about since stays as it is."""
    found = readings.translation(session, job.id, language)
    if found is None or found.content is None:
        detail = (
            f"Job {job.id} has no translation into {language!r}; `POST /v1/jobs/{job.id}/translations` makes it."
        )
        raise Problem(404, "translation_not_found", "Translation not found", detail)
    texts = {each["index"]: each["text"] for each in found.content["segments"]}
    segments = (
        reword(segment, texts[segment.index], language) if segment.index in texts else segment
        for segment in built.segments
    )
    return replace(built, segments=tuple(segments), language=language)


def _with_originals(session: Session, job: Job, redacted: Transcript, secrets: Secrets) -> Transcript:
    """The transcript as it was said, as far as that is kept. Raises Problem."""
    sealed = transcripts.sealed_originals(session, job.id)
    if not sealed:
        detail = f"Nothing that was left out of the transcript of job {job.id} is kept."
        raise Problem(404, "original_not_kept", "Original not kept", detail)
    originals: dict[int, dict[Source, list[Original]]] = defaultdict(dict)
    try:
        for chunk, role, data in sealed:
            originals[chunk][Source(role)] = [Original.from_json(each) for each in json.loads(secrets.open(data))]
    except SecretsLocked as error:
        detail = f"{error} Add the key that it was encrypted with behind the first."
        raise Problem(409, "secret_locked", "Secret locked", detail) from error
    return replace(redacted, segments=tuple(restore(redacted.segments, originals)))


def build_transcript(session: Session, job: Job) -> Transcript:
    """Final segments, and until the job is completed draft segments for the chunks that have no final ones yet."""
    segments = tuple(map(Segment.from_json, _segments(session, job)))
    return replace(_without_segments(session, job), segments=segments)


def _segments(session: Session, job: Job) -> list[Json]:
    """In order of time, as JSON."""
    if job.status == JobStatus.COMPLETED:
        return transcripts.final_segments(session, job.id)
    # read first: what becomes final meanwhile is among the segments, or its draft is
    final = transcripts.aligned_chunks(session, job.id)
    segments = transcripts.final_segments(session, job.id)
    final |= {segment["chunk"] for segment in segments}
    segments += [segment.to_json() for segment in _drafted(session, job, final)]
    return sorted(segments, key=lambda segment: (segment["start"], segment["index"]))


def _without_segments(session: Session, job: Job) -> Transcript:
    channels = select(Chunk.index, Chunk.channel).where(Chunk.job_id == job.id, Chunk.channel.is_not(None))
    return Transcript(
        job_id=str(job.id),
        status=job.status,
        language=job.language,
        duration=job.duration,
        segments=(),
        turns=tuple(Turn(**turn) for turn in speakers.turns(session, job.id)),
        speakers=tuple(Speaker(**speaker) for speaker in speakers.of_job(session, job.id)),
        title=job.title or job.filename,
        date=job.created_at,
        channels={index: channel for index, channel in session.execute(channels) if channel is not None},
    )


def _drafted(session: Session, job: Job, final: set[int]) -> Iterator[Segment]:
    """Segments of the chunks that are drafted and not final."""
    drafts = session.execute(
        select(Chunk, StoredHypothesis.content)
        .join(
            StoredHypothesis,
            (StoredHypothesis.job_id == Chunk.job_id) & (StoredHypothesis.chunk == Chunk.index),
        )
        .where(Chunk.job_id == job.id, StoredHypothesis.role == Role.DRAFT, Chunk.index.not_in(final))
    )
    for chunk, content in drafts:
        draft = Hypothesis.from_json(content)
        speaker = channel_speaker(chunk.channel)
        for segment in draft_segments(draft, chunk=chunk.index, timeline=Timeline.of(chunk.spans)):
            yield replace(segment, speaker=speaker)
