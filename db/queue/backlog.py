"""Queries over the whole queue: what waits, and what has waited or run too long."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import case, func, not_, select, text, union, update
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
    SELECT k.kind::text, count(*)
    FROM unnest(CAST(:kinds AS step_kind[]), CAST(:caps AS int[])) k (kind, cap)
    CROSS JOIN LATERAL (
        SELECT FROM ({first_lanes("", "true", "k.cap", "k.kind")}) l
        CROSS JOIN LATERAL (
            SELECT FROM steps r
            WHERE r.job_id = l.job_id AND r.kind = k.kind AND r.state = 'ready' AND (r.attempt > 0) = l.tried
              AND r.run_after <= now() - make_interval(secs => :seconds)
            LIMIT k.cap) s
        LIMIT k.cap) claimable
    GROUP BY k.kind
""")  # noqa: S608

DEPTHS = text("""
    SELECT k.kind::text, greatest(coalesce(l.ready, 0) - delayed, 0), delayed, coalesce(l.leased, 0),
           coalesce(extract(epoch FROM now() - (
               SELECT min(s.run_after) FROM steps s
               WHERE s.state = 'ready' AND s.kind = k.kind AND s.run_after <= now())), 0)::float
    FROM unnest(enum_range(CAST(NULL AS step_kind))) k (kind)
    LEFT JOIN (SELECT kind, sum(ready) AS ready, sum(leased) AS leased FROM lanes GROUP BY kind) l USING (kind)
    CROSS JOIN LATERAL (
        SELECT count(*) AS delayed FROM steps s
        WHERE s.state = 'ready' AND s.kind = k.kind AND (s.run_after > now() OR s.run_after IS NULL)) d
""")
"""Of what is ready or leased, lanes have the sums; only what waits for its time is counted one by one."""


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


def count_claimable(session: Session, caps: Mapping[str, int], seconds: float = 0) -> Counter[str]:
    """How many steps of each kind, or deliveries, were claimable for at least ``seconds``, counted to its cap.

    Of steps, those of the first so many lanes count.
    """
    caps = {kind: cap for kind, cap in caps.items() if cap}
    steps = {kind: cap for kind, cap in caps.items() if kind != DELIVER}
    values = {"kinds": list(steps), "caps": list(steps.values()), "seconds": seconds, "retries": True}
    found = {kind: count for kind, count in session.execute(COUNT_CLAIMABLE, values)} if steps else {}
    if DELIVER in caps:
        found[DELIVER] = deliveries.count_due(session, caps[DELIVER], seconds)
    return Counter(found)


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
    # a newer version running beside this one may have kinds that this one does not know
    kinds = set(StepKind)
    found = {kind: Depth(*counts) for kind, *counts in session.execute(DEPTHS) if kind in kinds}
    under_way = func.coalesce(WebhookDelivery.lease_until > func.now(), False)
    due = not_(under_way) & (WebhookDelivery.next_at <= func.now())
    seconds = func.extract("epoch", func.now() - func.min(WebhookDelivery.next_at).filter(due))
    total, waiting, running, oldest = session.execute(
        select(func.count(), func.count().filter(due), func.count().filter(under_way), seconds).where(
            WebhookDelivery.state == DeliveryState.WAITING
        )
    ).one()
    return found | {DELIVER: Depth(waiting, total - waiting - running, running, float(oldest or 0))}


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
