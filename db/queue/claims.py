"""Claiming: leasing ready steps to a worker, in fair order.

The claim commits the attempt before the work starts, so an attempt that kills its worker counts.
The fence tells a worker that lost its lease from the one that holds it now.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, text, update

from db.models import Job, Json, Step, StepKind, StepState, step_fence
from db.session import Sessions
from db.settings import Settings

PRIORITY_WAIT_SECONDS = 30.0
"""Waiting so long makes up for one place in the order: bounds how long a low priority can wait."""

MAX_RANKED_JOBS = 32
"""Only the longest-waiting jobs are ranked, so that claiming stays cheap with thousands queued."""

# Fair order across jobs. A step's rank is its place within its own job plus the job's leased steps, divided by the
# weight of the job's priority, minus how long the job has waited. So ten hours of audio never starve one minute.
# A tenant gets no more than its row or the settings say, counted over its leased steps.
CLAIM_QUERY = text("""
    WITH waiting AS (
        SELECT j.id AS job_id, j.tenant,
               CASE j.priority WHEN 'high' THEN 4.0 WHEN 'normal' THEN 2.0 ELSE 1.0 END AS weight,
               extract(epoch FROM clock_timestamp() - coalesce(
                   (SELECT max(c.claimed_at) FROM steps c WHERE c.job_id = j.id AND c.kind = :kind),
                   j.created_at)) AS waited
        FROM jobs j
        WHERE (j.status IN ('queued', 'processing') OR j.deleted_at IS NOT NULL)
          AND EXISTS (SELECT FROM steps r WHERE r.kind = :kind AND r.job_id = j.id
                      AND r.state = 'ready' AND r.run_after <= now() AND (r.attempt = 0 OR :retries))
    ), limited AS (
        SELECT w.name, coalesce(t.steps_at_once, (CAST(:limits AS jsonb) ->> w.name)::int,
                                (CAST(:limits AS jsonb) ->> '*')::int) AS most
        FROM (SELECT DISTINCT tenant AS name FROM waiting WHERE :limited) w
        LEFT JOIN tenants t ON t.name = w.name
    ), rooms AS (
        SELECT name, most - (SELECT count(*) FROM steps w JOIN jobs o ON o.id = w.job_id
                             WHERE w.state = 'leased' AND w.kind = :kind AND o.tenant = name) AS room
        FROM limited WHERE most IS NOT NULL
    ), lanes AS (
        SELECT w.*, t.room FROM waiting w LEFT JOIN rooms t ON t.name = w.tenant
        WHERE coalesce(t.room, 1) > 0
        ORDER BY w.waited * w.weight DESC LIMIT :lanes
    ), ranked AS (
        SELECT s.id, l.tenant, l.room, (s.place + f.in_work) / l.weight - l.waited / :patience AS rank
        FROM lanes l
        CROSS JOIN LATERAL (
            SELECT count(*) AS in_work FROM steps w
            WHERE w.job_id = l.job_id AND w.kind = :kind AND w.state = 'leased') f
        CROSS JOIN LATERAL (
            SELECT q.id, row_number() OVER (ORDER BY q.chunk) AS place FROM (
                SELECT r.id, r.chunk FROM steps r
                WHERE r.kind = :kind AND r.job_id = l.job_id AND r.state = 'ready' AND r.run_after <= now()
                  AND (r.attempt = 0 OR :retries)
                ORDER BY r.chunk LIMIT :depth) q) s
    ), allowed AS (
        SELECT id, rank, room, row_number() OVER (PARTITION BY tenant ORDER BY rank) AS turn FROM ranked
    )
    SELECT steps.id, steps.attempt FROM allowed JOIN steps USING (id)
    WHERE steps.state = 'ready' AND (allowed.room IS NULL OR allowed.turn <= allowed.room)
    ORDER BY allowed.rank LIMIT :limit
    FOR UPDATE OF steps SKIP LOCKED
""")


# Two workers that count at the same time would both take a tenant's last place.
LOCK_QUERY = text("""
    SELECT pg_advisory_xact_lock(hashtext(:name))
    WHERE :limited OR EXISTS (SELECT FROM tenants WHERE steps_at_once IS NOT NULL)
""")


@dataclass(frozen=True, slots=True)
class Claim:
    """A leased step: the right to commit its result while the row still has this fence."""

    id: int
    job_id: uuid.UUID
    kind: StepKind
    chunk: int | None
    attempt: int
    fence: int | None
    outages: int = 0
    tenant: str = ""
    trace: str | None = None
    """The ``traceparent`` of the job."""

    @property
    def chunk_index(self) -> int:
        if self.chunk is None:
            raise ValueError(f"{self.kind} step {self.id} belongs to no chunk")
        return self.chunk


CLAIM_COLUMNS = (
    *(Step.id, Step.job_id, Step.kind, Step.chunk, Step.attempt, Step.fence, Step.outages),
    *(Job.tenant, Job.trace),
)
"""Of a step and its job."""


def claim_steps(
    sessions: Sessions, kind: StepKind, limit: int, worker: str, settings: Settings, *, retries: bool = True
) -> list[Claim]:
    """Lease up to ``limit`` ready steps of a kind, in fair order across jobs.

    A step that has failed before is claimed alone, and not at all without ``retries``: if it kills its worker, no
    other step loses an attempt.
    """
    with sessions.begin() as session:
        lock = {"name": f"claim {kind}", "limited": bool(settings.tenant_limits)}
        limited = session.execute(LOCK_QUERY, lock).first() is not None
        parameters = claim_parameters(kind, limit, settings, retries=retries, limited=limited)
        rows = session.execute(CLAIM_QUERY, parameters).all()
        if not rows:
            return []
        first_tries = [row.id for row in rows if row.attempt == 0]
        ids = [rows[0].id] if rows[0].attempt > 0 else first_tries
        leased = session.execute(
            update(Step)
            .where(Step.id.in_(ids), Job.id == Step.job_id)
            .values(
                state=StepState.LEASED,
                attempt=Step.attempt + 1,
                fence=step_fence.next_value(),
                lease_until=func.clock_timestamp() + timedelta(seconds=settings.lease_seconds),
                claimed_at=func.clock_timestamp(),
                worker=worker,
            )
            .returning(*CLAIM_COLUMNS)
            .execution_options(synchronize_session=False)
        ).all()
    order = {id_: place for place, id_ in enumerate(ids)}
    return sorted((Claim(*row) for row in leased), key=lambda claimed: order[claimed.id])


def claim_parameters(
    kind: StepKind, limit: int, settings: Settings, *, retries: bool = True, limited: bool = True
) -> Json:
    """The parameters of ``CLAIM_QUERY``. ``limited``: some tenant has a share, so that they are counted."""
    return {
        "kind": kind,
        "limit": limit,
        # more than the limit, since other workers may hold the first rows locked
        "depth": 4 * limit + 8,
        "lanes": MAX_RANKED_JOBS,
        "patience": PRIORITY_WAIT_SECONDS,
        "retries": retries,
        "limited": limited,
        "limits": json.dumps(settings.tenant_limits),
    }
