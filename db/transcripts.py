"""Hypotheses and segments: the text of a transcript."""

from __future__ import annotations

import uuid

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import Chunk, Json, Role, StoredHypothesis, StoredSegment


def previous_refined(
    session: Session, job_id: uuid.UUID, chunk: int, count: int
) -> list[tuple[float, Json | None]]:
    """The chunks before this one on its channel, latest first: start, and refined hypothesis if there is one."""
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
        # by start: channels that were transcribed separately are merged in time
        .order_by(StoredSegment.start, StoredSegment.index)
    )
    return [row.to_json() for row in rows]


def hypothesis(session: Session, job_id: uuid.UUID, chunk: int, role: Role) -> Json | None:
    return session.scalar(
        select(StoredHypothesis.content).where(
            StoredHypothesis.job_id == job_id, StoredHypothesis.chunk == chunk, StoredHypothesis.role == role
        )
    )


def spoken_language(session: Session, job_id: uuid.UUID) -> str | None:
    """The language of most of the final text."""
    length = func.sum(func.length(StoredSegment.text))
    return session.scalar(
        select(StoredSegment.language)
        .where(StoredSegment.job_id == job_id, StoredSegment.language.is_not(None))
        .group_by(StoredSegment.language)
        .order_by(length.desc(), StoredSegment.language)
        .limit(1)
    )
