"""Steps, which form the queue, and the event log of each job."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Sequence,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, Json
from db.models.enums import EventType, StepKind, StepState

step_fence = Sequence("step_fence", metadata=Base.metadata)
"""Fencing tokens: each lease gets a larger one, so that a worker that lost its lease is recognised."""


class Step(Base):
    """One unit of work. These rows are the queue; Celery messages are only hints."""

    __tablename__ = "steps"
    __table_args__ = (
        UniqueConstraint("job_id", "kind", "chunk", postgresql_nulls_not_distinct=True),
        CheckConstraint(
            "(state = 'leased') <= (lease_until IS NOT NULL AND fence IS NOT NULL)", name="leased_has_lease"
        ),
        CheckConstraint("attempt >= 0", name="attempt"),
        Index("ix_steps_ready", "kind", "job_id", "chunk", postgresql_where=text("state = 'ready'")),
        Index("ix_steps_leased", "job_id", "kind", postgresql_where=text("state = 'leased'")),
        Index("ix_steps_expiry", "lease_until", postgresql_where=text("state = 'leased'")),
        Index("ix_steps_dead", "kind", postgresql_where=text("state = 'dead'")),
        Index("ix_steps_claimed", "job_id", "kind", "claimed_at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    kind: Mapped[StepKind]
    chunk: Mapped[int | None]
    state: Mapped[StepState] = mapped_column(server_default=StepState.READY.value)
    attempt: Mapped[int] = mapped_column(server_default="0")
    outages: Mapped[int] = mapped_column(server_default="0")
    """Attempts that failed because Postgres or S3 was down; they are not counted in ``attempt``."""
    run_after: Mapped[datetime | None] = mapped_column(server_default=func.now())
    """Earliest time of the next claim; none where an older version has it wait."""
    fence: Mapped[int | None] = mapped_column(BigInteger)
    lease_until: Mapped[datetime | None]
    worker: Mapped[str | None]
    error: Mapped[str | None]
    result: Mapped[Json | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    claimed_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Event(Base):
    """The event log of a job, for replay: ``seq`` counts from 1 without gaps."""

    __tablename__ = "events"
    __table_args__ = (CheckConstraint("seq > 0", name="seq"),)

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    type: Mapped[EventType]
    data: Mapped[Json]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
