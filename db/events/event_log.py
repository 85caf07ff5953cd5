"""The event log of each job."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import Event, Job
from db.queue.transaction import LoggedEvent


def after(session: Session, job_id: uuid.UUID, seq: int, limit: int = 1000) -> list[LoggedEvent]:
    """Events numbered above ``seq``, in order."""
    rows = session.scalars(
        select(Event).where(Event.job_id == job_id, Event.seq > seq).order_by(Event.seq).limit(limit)
    )
    return [LoggedEvent(row.job_id, row.seq, row.type, row.at, row.data) for row in rows]


def count_after(session: Session, job_id: uuid.UUID, seq: int) -> int:
    """How many events there are numbered above ``seq``."""
    return session.scalar(select(func.count()).where(Event.job_id == job_id, Event.seq > seq)) or 0


def has_ended(session: Session, job_id: uuid.UUID, *, until_deleted: bool = False) -> bool:
    """Whether the job has finished, and only what people change will follow, or is deleted and nothing will."""
    status = session.scalar(select(Job.status).where(Job.id == job_id, Job.deleted_at.is_(None)))
    return status is None or (status.finished and not until_deleted)


def newest_numbers(session: Session, job_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, int]:
    """The newest event number of each job that still exists."""
    rows = session.execute(select(Job.id, Job.event_seq).where(Job.id.in_(job_ids), Job.deleted_at.is_(None)))
    return {row.id: row.event_seq for row in rows}
