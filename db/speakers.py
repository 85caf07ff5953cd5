"""Speakers of a recording, and their turns."""

from __future__ import annotations

import math
import uuid

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Json, StoredSpeaker, StoredTurn


def turns(
    session: Session, job_id: uuid.UUID, start: float = 0.0, end: float = math.inf, margin: float = 60.0
) -> list[Json]:
    """Turns that are at most ``margin`` seconds from a span of the recording, in order."""
    rows = session.scalars(
        select(StoredTurn)
        .where(StoredTurn.job_id == job_id, StoredTurn.start < end + margin, StoredTurn.end > start - margin)
        .order_by(StoredTurn.index)
    )
    return [{"start": row.start, "end": row.end, "speaker": row.speaker} for row in rows]


def of_job(session: Session, job_id: uuid.UUID) -> list[Json]:
    """The speakers in the order of their labels, in their public shape."""
    rows = session.scalars(
        select(StoredSpeaker).where(StoredSpeaker.job_id == job_id).order_by(StoredSpeaker.label)
    )
    return [row.to_json() for row in rows]
