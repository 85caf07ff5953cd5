"""Queries over the whole queue: how much waits, and what has waited or run too long."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import exists, func, select, update
from sqlalchemy.orm import Session, aliased

from db.models import Job, JobStatus, Step, StepKind, StepState, number_option
from db.queue.leases import CLAIMED, Claim
from db.settings import Settings


def is_expired(session: Session, claimed: Claim) -> bool:
    """Whether the lease has run out; the job's row must be locked."""
    until = select(Step.lease_until < func.clock_timestamp()).where(Step.id == claimed.id)
    return bool(session.scalar(until))


def stalled_claims(session: Session, settings: Settings, limit: int = 100) -> list[Claim]:
    """Steps whose worker went silent. The caller locks the job and settles each under its old fence.

    None while Postgres has only just started: nobody could renew a lease while it was away.
    """
    up_since = func.clock_timestamp() - timedelta(seconds=2 * settings.lease_renew_seconds)
    rows = session.execute(
        select(*CLAIMED)
        .where(
            Step.state == StepState.LEASED,
            Step.lease_until < func.clock_timestamp(),
            func.pg_postmaster_start_time() < up_since,
            # beside a newer version there may be kinds that are not ours to judge
            Step.kind.in_(list(StepKind)),
        )
        .order_by(Step.lease_until)
        .limit(limit)
    ).all()
    return [Claim(*row) for row in rows]


def overdue_refinements(session: Session, default: float | None) -> dict[uuid.UUID, list[int]]:
    """Chunks that nobody refines and that have waited longer than ``degrade_after`` of their job, by job."""
    allowed = func.coalesce(number_option("degrade_after"), default)
    rows = session.execute(
        select(Step.job_id, Step.chunk)
        .join(Job, Job.id == Step.job_id)
        .where(
            Step.kind == StepKind.REFINE,
            Step.state == StepState.READY,
            Job.status == JobStatus.PROCESSING,
            func.extract("epoch", func.clock_timestamp() - Step.run_after) > allowed,
        )
        .order_by(Step.job_id, Step.chunk)
        .limit(1000)
    )
    found: dict[uuid.UUID, list[int]] = defaultdict(list)
    for job_id, chunk in rows:
        if chunk is not None:
            found[job_id].append(chunk)
    return found


def skip_steps(session: Session, job_id: uuid.UUID, kind: StepKind, chunks: Sequence[int]) -> list[int]:
    """Overtake those of the steps that are still ready; what a worker has claimed meanwhile stays its own."""
    rows = session.scalars(
        update(Step)
        .where(Step.job_id == job_id, Step.kind == kind, Step.state == StepState.READY, Step.chunk.in_(chunks))
        .values(state=StepState.SKIPPED, finished_at=func.now())
        .returning(Step.chunk)
    )
    return sorted(chunk for chunk in rows if chunk is not None)


def unblock_orphans(session: Session) -> None:
    """End the waiting of refinements whose neighbour is through: a worker of an older version does not do it."""
    neighbour = aliased(Step)
    through = exists().where(
        neighbour.job_id == Step.job_id, neighbour.kind == StepKind.ALIGN, neighbour.chunk == Step.chunk - 1
    )
    session.execute(
        update(Step)
        .where(Step.kind == StepKind.REFINE, Step.state == StepState.READY, Step.run_after.is_(None), through)
        .values(run_after=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )


def count_ready(session: Session, cap: int, tenant: str | None = None) -> int:
    """How many steps are ready, of all kinds and whether they may run yet or not, counted up to ``cap``."""
    ready = select(Step.id).where(Step.state == StepState.READY)
    if tenant is not None:
        ready = ready.join(Job, Job.id == Step.job_id).where(Job.tenant == tenant)
    return session.scalar(select(func.count()).select_from(ready.limit(cap).subquery())) or 0


def count_claimable(session: Session, kind: StepKind, cap: int, seconds: float = 0) -> int:
    """How many steps of a kind could be claimed for at least so many seconds, counted up to ``cap``."""
    since = func.now() - timedelta(seconds=seconds)
    ready = (
        select(Step.id)
        .where(Step.kind == kind, Step.state == StepState.READY, Step.run_after <= since)
        .limit(cap)
        .subquery()
    )
    return session.scalar(select(func.count()).select_from(ready)) or 0
