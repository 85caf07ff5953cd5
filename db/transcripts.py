"""Hypotheses and segments: the text of a transcript."""

from __future__ import annotations

import uuid

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import Json, Role, StoredHypothesis, StoredSegment


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


def sealed_originals(session: Session, job_id: uuid.UUID) -> list[tuple[int, Role, bytes]]:
    """What redaction took out of hypotheses, by chunk and role, where that is kept."""
    rows = session.execute(
        select(StoredHypothesis.chunk, StoredHypothesis.role, StoredHypothesis.original).where(
            StoredHypothesis.job_id == job_id, StoredHypothesis.original.is_not(None)
        )
    )
    return [(chunk, role, original) for chunk, role, original in rows if original is not None]


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
