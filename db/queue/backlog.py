"""Queries over the whole queue: what waits, and what has waited or run too long."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, case, func, select, text, union, update
from sqlalchemy.orm import Session

from db.models import (
    DeliveryState,
    Job,
    JobStatus,
    ModelVersion,
    Step,
    StepKind,
    StepState,
    Tenant,
    VersionState,
    WebhookDelivery,
    number_option,
)
from db.queue.claims import CLAIM_COLUMNS, Claim, first_lanes
from db.settings import Settings
from db.webhooks import deliveries
from db.webhooks.outbox import DELIVER

COUNT_CLAIMABLE = text(f"""
    SELECT count(*) FROM (
        SELECT FROM ({first_lanes("", "true", ":cap")}) l
        CROSS JOIN LATERAL (
            SELECT FROM steps r
            WHERE r.job_id = l.job_id AND r.kind = :kind AND r.state = 'ready' AND (r.attempt > 0) = l.tried
              AND r.run_after <= now() - make_interval(secs => :seconds)
            LIMIT :cap) s
        LIMIT :cap) claimable
""")  # noqa: S608

BEGIN_ROUND = text("""
    UPDATE healing SET healed_at = clock_timestamp()
    WHERE id IN (
        SELECT id FROM healing
        WHERE healed_at NOT BETWEEN clock_timestamp() - make_interval(secs => :seconds) AND clock_timestamp()
        FOR UPDATE SKIP LOCKED)
    RETURNING id
""")


def stalled_claims(session: Session, settings: Settings, limit: int = 100) -> list[Claim]:
    """Claims whose lease has run out. The caller locks the job and ends each under its fence.

    Empty while Postgres has only just started: no lease could be renewed while it was down.
    """
    up_since = func.clock_timestamp() - timedelta(seconds=2 * settings.lease_renew_seconds)
    rows = session.execute(
        select(*CLAIM_COLUMNS)
        .join(Job, Job.id == Step.job_id)
        .where(
            Step.state == StepState.LEASED,
            Step.lease_until < func.clock_timestamp(),
            func.pg_postmaster_start_time() < up_since,
            # a newer version running beside this one may have kinds that this one does not know
            Step.kind.in_(list(StepKind)),
        )
        .order_by(Step.lease_until)
        .limit(limit)
    ).all()
    return [Claim(*row) for row in rows]


def lapsed_together(session: Session) -> bool:
    """Whether several workers lost their leases, and more than still hold some: a partition, not a crash."""
    lapsed = Step.lease_until < func.clock_timestamp()
    silent, alive = session.execute(
        select(
            func.count(Step.worker.distinct()).filter(lapsed), func.count(Step.worker.distinct()).filter(~lapsed)
        ).where(Step.state == StepState.LEASED)
    ).one()
    return bool(silent > 1 and silent > alive)


def overdue_refinements(
    session: Session, default: float | None, excluded: Collection[uuid.UUID] = ()
) -> dict[uuid.UUID, list[int]]:
    """Chunks, by job, that have waited for refinement longer than their job's ``degrade_after`` seconds."""
    # since it was first ready: a server that is away for a while costs attempts nothing, and time no less
    waited = func.extract("epoch", func.clock_timestamp() - Step.created_at)
    overdue = (
        select(Step.job_id, Step.chunk)
        .join(Job, Job.id == Step.job_id)
        .where(
            Step.kind == StepKind.REFINE,
            Step.state == StepState.READY,
            Job.status == JobStatus.PROCESSING,
            Job.id.not_in(excluded),
            waited > number_option("degrade_after", default),
        )
    )
    # those of jobs that say so themselves, however few they are among all that wait
    either = [overdue.where(Job.options.has_key("degrade_after"))]
    if default is not None:
        either.append(overdue.where(Step.created_at < func.now() - timedelta(seconds=default)))
    found = union(*either).subquery()
    rows = session.execute(select(found).order_by(found.c.job_id, found.c.chunk).limit(1000))
    chunks_by_job: dict[uuid.UUID, list[int]] = defaultdict(list)
    for job_id, chunk in rows:
        if chunk is not None:
            chunks_by_job[job_id].append(chunk)
    return chunks_by_job


def skip_steps(session: Session, job_id: uuid.UUID, kind: StepKind, chunks: Sequence[int]) -> list[int]:
    """Skip those of the steps that are still ready, not claimed meanwhile. Returns their chunks."""
    rows = session.scalars(
        update(Step)
        .where(Step.job_id == job_id, Step.kind == kind, Step.state == StepState.READY, Step.chunk.in_(chunks))
        .values(state=StepState.SKIPPED, finished_at=func.now())
        .returning(Step.chunk)
    )
    return sorted(chunk for chunk in rows if chunk is not None)


def release_blocked(session: Session) -> None:
    """Let refinements run that workers of an older version have wait for the previous chunk."""
    session.execute(
        update(Step)
        .where(Step.kind == StepKind.REFINE, Step.state == StepState.READY, Step.run_after.is_(None))
        .values(run_after=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )


def count_claimable(session: Session, kind: str, cap: int, seconds: float = 0) -> int:
    """How many steps of a kind, or deliveries, were claimable for at least ``seconds``, counted to ``cap``.

    Of steps, those of the first ``cap`` lanes count.
    """
    if kind == DELIVER:
        return deliveries.count_due(session, cap, seconds)
    return session.scalar(COUNT_CLAIMABLE, {"kind": kind, "cap": cap, "seconds": seconds, "retries": True}) or 0


def begin_round(session: Session, seconds: float) -> bool:
    """Whether the last round of healing, whoever made it, began so many seconds ago. If so, one begins now.

    One that began in the future was timed by a clock that was wrong.
    """
    return session.scalar(BEGIN_ROUND, {"seconds": seconds}) is not None


@dataclass(frozen=True, slots=True)
class Depth:
    """How much there is to do of one kind."""

    waiting: int = 0
    """That could run now."""
    delayed: int = 0
    """That wait for their time."""
    running: int = 0
    oldest_seconds: float = 0.0
    """Since the one of the waiting that waits longest could run."""


def depths(session: Session) -> dict[str, Depth]:
    """Of every kind of step, and of deliveries."""
    found = {str(kind): Depth() for kind in StepKind}
    # a newer version running beside this one may have kinds that this one does not know
    known = Step.kind.in_(list(StepKind))
    ready = select(Step.kind, *_waiting(Step.run_after)).where(Step.state == StepState.READY, known)
    for kind, waiting, delayed, seconds in session.execute(ready.group_by(Step.kind)):
        found[kind] = Depth(waiting, delayed, oldest_seconds=float(seconds or 0))
    leased = select(Step.kind, func.count()).where(Step.state == StepState.LEASED, known)
    for kind, running in session.execute(leased.group_by(Step.kind)):
        found[kind] = replace(found[kind], running=running)
    under_way = WebhookDelivery.lease_until > func.now()
    due = case((func.coalesce(under_way, False), None), else_=WebhookDelivery.next_at)
    waiting, delayed, seconds, running = session.execute(
        select(*_waiting(due), func.count().filter(under_way)).where(
            WebhookDelivery.state == DeliveryState.WAITING
        )
    ).one()
    return found | {DELIVER: Depth(waiting, delayed - running, running, float(seconds or 0))}


def _waiting(due: Any) -> tuple[ColumnElement[int], ColumnElement[int], ColumnElement[Any]]:
    """How many are due, how many are not, and for how many seconds the first has been."""
    is_due = func.coalesce(due <= func.now(), False)
    seconds = func.extract("epoch", func.now() - func.min(due).filter(is_due))
    return func.count().filter(is_due), func.count().filter(~is_due), seconds


def open_jobs(session: Session) -> dict[tuple[str, str, str], int]:
    """Jobs that have not ended, by status, priority, and whether their tenant has limits of its own."""
    tenant_class = case((Tenant.name.is_(None), "standard"), else_="limited")
    rows = session.execute(
        select(Job.status, Job.priority, tenant_class, func.count())
        .outerjoin(Tenant, Tenant.name == Job.tenant)
        .where(Job.status.in_((JobStatus.QUEUED, JobStatus.PROCESSING)), Job.deleted_at.is_(None))
        .group_by(Job.status, Job.priority, tenant_class)
    )
    return {(status, priority, kind): number for status, priority, kind, number in rows}


def version_states(session: Session) -> dict[str, int]:
    """How many tuned models are in each state."""
    rows = session.execute(select(ModelVersion.state, func.count()).group_by(ModelVersion.state))
    return dict.fromkeys(map(str, VersionState), 0) | {str(state): number for state, number in rows}
