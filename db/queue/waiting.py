"""How much audio waits to be transcribed, and how fast it is worked off."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Float, cast, func, select
from sqlalchemy.orm import Session

from db.access.quotas import AT_WORK, IS_RECORDING
from db.models import Job, JobStatus

LEAST_SECONDS = 30.0
"""What the shortest of recordings counts for: a chunk takes the same time however little is said in it."""

BYTES_PER_SECOND = 32_000
"""Of a recording that nobody has opened yet, whose length is not known: 16 kHz, mono, 16 bits."""

RATE_WINDOW = timedelta(minutes=10)
SHORTEST_WAIT, LONGEST_WAIT = 10.0, 600.0


def waiting_seconds(session: Session, tenant: str | None = None) -> float:
    """Seconds of audio that wait or are in work, without what is done of each recording; of a tenant, or all."""
    known = func.coalesce(cast(Job.duration, Float), cast(Job.bytes, Float) / BYTES_PER_SECOND)
    left = func.greatest(known, LEAST_SECONDS) * (100 - Job.percent) / 100
    query = select(func.sum(left)).where(AT_WORK, IS_RECORDING)
    if tenant is not None:
        query = query.where(Job.tenant == tenant)
    return float(session.scalar(query) or 0.0)


def seconds_until_room(session: Session, excess: float, tenant: str | None = None) -> float:
    """When ``excess`` seconds of audio will have been worked off, at the pace of the last minutes."""
    done = select(func.sum(func.greatest(cast(Job.duration, Float), LEAST_SECONDS))).where(
        Job.completed_at > func.now() - RATE_WINDOW, Job.status == JobStatus.COMPLETED, IS_RECORDING
    )
    if tenant is not None:
        done = done.where(Job.tenant == tenant)
    pace = float(session.scalar(done) or 0.0) / RATE_WINDOW.total_seconds()
    return min(max(excess / pace if pace else LONGEST_WAIT, SHORTEST_WAIT), LONGEST_WAIT)
