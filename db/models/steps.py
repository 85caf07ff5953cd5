"""Steps, which form the queue, and the event log of each job."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

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
        Index("ix_steps_ready", "job_id", "kind", "chunk", postgresql_where=text("state = 'ready'")),
        Index("ix_steps_refinable", "created_at", postgresql_where=text("kind = 'refine' AND state = 'ready'")),
        Index("ix_steps_due", "kind", "run_after", postgresql_where=text("state = 'ready'")),
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


class Lane(Base):
    """What is open of one kind in one job: claims find ready steps here, in the order in which jobs are served.

    Triggers on ``steps`` keep these rows, in the transaction that changes the steps, whoever does that.
    """

    __tablename__ = "lanes"
    __table_args__ = (
        Index("ix_lanes_next", "kind", "tried", "asleep", "next_at", postgresql_where=text("ready > 0")),
        Index(
            "ix_lanes_tenant_next",
            *("kind", "tenant", "tried", "asleep", "next_at"),
            postgresql_where=text("ready > 0"),
        ),
        Index("ix_lanes_leased", "kind", "tenant", postgresql_where=text("leased > 0")),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[StepKind] = mapped_column(primary_key=True)
    tried: Mapped[bool] = mapped_column(primary_key=True)
    """Whether these steps have failed before: they are claimed one by one."""
    tenant: Mapped[str]
    pace: Mapped[timedelta]
    """How long a job of its priority waits for each step that it has in work."""
    ready: Mapped[int]
    leased: Mapped[int]
    served_at: Mapped[datetime]
    """Of the last claim; the job's creation before the first."""
    asleep: Mapped[bool]
    """Whether none of its ready steps may run yet. One that wrongly says no is put to sleep by the next claim."""
    next_at: Mapped[datetime]
    """Its place in the order: ``served_at + pace * (1 + leased)``. While asleep, when the first step may run."""


class Event(Base):
    """The event log of a job, for replay: ``seq`` counts from 1 without gaps."""

    __tablename__ = "events"
    __table_args__ = (CheckConstraint("seq > 0", name="seq"),)

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    type: Mapped[EventType]
    data: Mapped[Json]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
