"""Questions about jobs: the listing, the event log, what a transcript is made of."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from db.models import (
    Chunk,
    Event,
    EventType,
    Job,
    JobPurpose,
    JobStatus,
    Json,
    Role,
    StepKind,
    StoredHypothesis,
    StoredSegment,
    StoredSpeaker,
    StoredTurn,
)
from db.transaction import JobTransaction, LoggedEvent

IS_TRANSCRIPTION = (Job.purpose == JobPurpose.RECORDING) & Job.voice_id.is_(None)
"""Users see no others as jobs."""


def create(session: Session, job: Job, first: StepKind = StepKind.INGEST) -> JobTransaction:
    """Insert a job with its first step and event. The new row is ours until the transaction ends."""
    session.add(job)
    session.flush()
    transaction = JobTransaction(session, job)
    transaction.emit(EventType.JOB_QUEUED, {"filename": job.filename, "bytes": job.bytes})
    transaction.enqueue(first)
    return transaction


def get(session: Session, tenant: str, job_id: uuid.UUID) -> Job | None:
    """The tenant's job, unless it was deleted."""
    return session.scalar(
        select(Job).where(Job.id == job_id, Job.tenant == tenant, Job.deleted_at.is_(None), IS_TRANSCRIPTION)
    )


def by_idempotency_key(session: Session, tenant: str, key: str) -> Job | None:
    return session.scalar(select(Job).where(Job.tenant == tenant, Job.idempotency_key == key))


def page(
    session: Session,
    tenant: str,
    *,
    limit: int,
    status: JobStatus | None = None,
    after: tuple[datetime, uuid.UUID] | None = None,
) -> Sequence[Job]:
    """Up to ``limit`` jobs, newest first, beginning after the given place."""
    query = select(Job).where(Job.tenant == tenant, Job.deleted_at.is_(None), IS_TRANSCRIPTION)
    if status is not None:
        query = query.where(Job.status == status)
    if after is not None:
        query = query.where(tuple_(Job.created_at, Job.id) < after)
    return session.scalars(query.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit)).all()


def events_after(session: Session, job_id: uuid.UUID, seq: int, limit: int = 1000) -> list[LoggedEvent]:
    """Events with a number above ``seq``, in order."""
    rows = session.scalars(
        select(Event).where(Event.job_id == job_id, Event.seq > seq).order_by(Event.seq).limit(limit)
    )
    return [LoggedEvent(row.job_id, row.seq, row.type, row.at, row.data) for row in rows]


def has_ended(session: Session, job_id: uuid.UUID) -> bool:
    """Whether no event is to come: the job has finished, or was deleted."""
    status = session.scalar(select(Job.status).where(Job.id == job_id, Job.deleted_at.is_(None)))
    return status is None or status.finished


def event_numbers(session: Session, job_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, int]:
    """The newest event number of each job that still exists."""
    rows = session.execute(select(Job.id, Job.event_seq).where(Job.id.in_(job_ids), Job.deleted_at.is_(None)))
    return {row.id: row.event_seq for row in rows}


def before(session: Session, job_id: uuid.UUID, chunk: int, count: int) -> list[tuple[float, Json | None]]:
    """Start and refined hypothesis, where there is one, of the chunks before this on its channel, latest first."""
    this = select(Chunk.channel).where(Chunk.job_id == job_id, Chunk.index == chunk).scalar_subquery()
    rows = session.execute(
        select(Chunk.start, StoredHypothesis.content)
        .outerjoin(
            StoredHypothesis,
            (StoredHypothesis.job_id == Chunk.job_id)
            & (StoredHypothesis.chunk == Chunk.index)
            & (StoredHypothesis.role == Role.REFINED),
        )
        .where(Chunk.job_id == job_id, Chunk.index < chunk, Chunk.channel.is_not_distinct_from(this))
        .order_by(Chunk.index.desc())
        .limit(count)
    )
    return [(row.start, row.content) for row in rows]


def final_segments(session: Session, job_id: uuid.UUID) -> list[Json]:
    """Final segments in order, in their public shape."""
    rows = session.scalars(
        select(StoredSegment)
        .where(StoredSegment.job_id == job_id)
        # the same order, but for channels that were transcribed apart and are merged in time
        .order_by(StoredSegment.start, StoredSegment.index)
    )
    return [row.to_json() for row in rows]


def hypothesis(session: Session, job_id: uuid.UUID, chunk: int, role: Role) -> Json | None:
    return session.scalar(
        select(StoredHypothesis.content).where(
            StoredHypothesis.job_id == job_id, StoredHypothesis.chunk == chunk, StoredHypothesis.role == role
        )
    )


def turns(
    session: Session, job_id: uuid.UUID, start: float = 0.0, end: float = math.inf, margin: float = 60.0
) -> list[Json]:
    """The speakers' turns around a span of the recording, in order."""
    rows = session.scalars(
        select(StoredTurn)
        .where(StoredTurn.job_id == job_id, StoredTurn.start < end + margin, StoredTurn.end > start - margin)
        .order_by(StoredTurn.index)
    )
    return [{"start": row.start, "end": row.end, "speaker": row.speaker} for row in rows]


def speakers(session: Session, job_id: uuid.UUID) -> list[Json]:
    """Who talks, in the order of labels, in their public shape."""
    rows = session.scalars(
        select(StoredSpeaker).where(StoredSpeaker.job_id == job_id).order_by(StoredSpeaker.label)
    )
    return [row.to_json() for row in rows]


def spoken_language(session: Session, job_id: uuid.UUID) -> str | None:
    """The language that most of the final words are in."""
    length = func.sum(func.length(StoredSegment.text))
    return session.scalar(
        select(StoredSegment.language)
        .where(StoredSegment.job_id == job_id, StoredSegment.language.is_not(None))
        .group_by(StoredSegment.language)
        .order_by(length.desc(), StoredSegment.language)
        .limit(1)
    )
