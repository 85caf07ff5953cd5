"""Corrections of segments, in text or speaker. The machine's version is kept."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Path
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import func
from sqlalchemy.orm import Session

from api.dependencies import Services, ServicesDep, Tenant, find_job, needs
from api.problems import Problem, job_not_found
from api.routes.transcripts import build_transcript
from api.text import Name, Text
from api.transcript_views import SegmentView
from db.access import redaction
from db.models import EventType, Job, JobStatus, Scope, SegmentSource, StoredSegment
from db.objects.storage import transcript_prefix
from db.queue.transaction import JobGone, JobTransaction, job_transaction
from speech.text.formats import file_names, render_files
from speech.text.redaction.kinds import PersonalData
from speech.text.redaction.redact import redact_text
from speech.text.retiming import retime
from speech.text.words import Segment, Source

router = APIRouter(prefix="/v1/jobs/{job_id}/segments", dependencies=[needs(Scope.JOBS_WRITE)], tags=["segments"])

MAX_INDEX = 2**31 - 1
ATTEMPTS = 5
"""Other changes of the job that may come between before the correction gives up."""


class Correction(BaseModel):
    """The changes; at least one of the two."""

    model_config = ConfigDict(extra="forbid")

    text: Text | None = None
    speaker: Name | None = Field(None, description="A label of this job, or a new name.")

    @model_validator(mode="after")
    def _require_any(self) -> Correction:
        if self.text is None and self.speaker is None:
            raise ValueError("give `text`, `speaker`, or both")
        return self


@router.patch("/{index}", response_model=SegmentView, response_model_exclude_unset=True)
def correct_segment(
    job_id: str,
    index: Annotated[int, Path(ge=0, le=MAX_INDEX)],
    correction: Correction,
    services: ServicesDep,
    tenant: Tenant,
    background: BackgroundTasks,
) -> dict[str, Any]:
    """Correct a final segment. The stored transcript is written anew, and ``segment.corrected`` is announced.

    What is left out of the job's transcript is left out of a correction too; the answer has the text as stored.
    """
    sessions = services.for_tenant(tenant)
    with sessions() as session:
        asked = find_job(session, tenant, job_id)
        found, correction = asked.id, _redacted(services, session, asked, correction)
    for _ in range(ATTEMPTS):
        with sessions() as session:
            job = session.get(Job, found)
            if job is None:
                raise job_not_found(job_id)
            corrected = _corrected(_segment(job, index, session.get(StoredSegment, (found, index))), correction)
            # a transcript that is not stored yet will be rendered from the rows
            prefix = _render(services, job, corrected, session) if job.status == JobStatus.COMPLETED else None
            seen = job.event_seq
        try:
            with job_transaction(sessions, found) as transaction:
                if transaction.job.event_seq == seen:
                    _store(transaction, corrected, prefix)
        except JobGone as error:
            raise job_not_found(job_id) from error
        if not transaction.events:
            # the job changed meanwhile: discard what was written, and start over
            if prefix is not None:
                services.storage.delete(prefix + name for name in file_names())
            continue
        background.add_task(services.bus.publish, transaction.events)
        return corrected.to_json()
    raise Problem(409, "job_busy", "Job busy", "The job keeps changing; try the correction again.")


def _segment(job: Job, index: int, stored: StoredSegment | None) -> Segment:
    if stored is not None and job.deleted_at is None:
        return Segment.from_json(stored.to_json())
    detail = f"Job {job.id} has no final segment {index}; drafts cannot be corrected."
    raise Problem(404, "segment_not_found", "Segment not found", detail)


def _redacted(services: Services, session: Session, job: Job, correction: Correction) -> Correction:
    kinds = redaction.of_job(session, job.tenant, job.options, services.settings).kinds
    if correction.text is None or not kinds:
        return correction
    regions = services.settings.redact_regions
    text = redact_text(correction.text, frozenset(map(PersonalData, kinds)), regions)
    return correction.model_copy(update={"text": text})


def _corrected(segment: Segment, correction: Correction) -> Segment:
    text = correction.text or segment.text
    words = segment.words if text == segment.text else retime(segment.words, text, segment.start, segment.end)
    return replace(
        segment,
        text=text,
        words=words,
        speaker=correction.speaker or segment.speaker,
        source=Source.HUMAN,
        confidence=1.0,
    )


def _render(services: Services, job: Job, corrected: Segment, session: Session) -> str:
    """Write the corrected transcript under a new prefix, which takes effect once the job names it."""
    transcript = build_transcript(session, job)
    segments = tuple(corrected if s.index == corrected.index else s for s in transcript.segments)
    transcript = replace(transcript, segments=segments)
    prefix = f"{transcript_prefix(job.id)}corrected-{job.event_seq + 1}-{uuid.uuid4().hex[:8]}/"
    for name, body, media_type in render_files(transcript):
        services.storage.put(prefix + name, body, media_type)
    return prefix


def _store(transaction: JobTransaction, corrected: Segment, prefix: str | None) -> None:
    job = transaction.job
    stored = transaction.session.get_one(StoredSegment, (job.id, corrected.index))
    data = corrected.to_json()
    stored.machine = stored.machine or stored.to_json()
    stored.source = SegmentSource.HUMAN
    for name in ("text", "speaker", "confidence", "words"):
        setattr(stored, name, data[name])
    if prefix is not None:
        job.transcript_prefix = prefix
        job.corrected_at = func.now()
    transaction.emit(EventType.SEGMENT_CORRECTED, data)
