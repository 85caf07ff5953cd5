"""Queries on what a transcript is made of."""

from __future__ import annotations

import math
import uuid

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import (
    Chunk,
    Json,
    Role,
    StoredHypothesis,
    StoredSegment,
    StoredSpeaker,
    StoredTurn,
)


def previous_refined(
    session: Session, job_id: uuid.UUID, chunk: int, count: int
) -> list[tuple[float, Json | None]]:
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
