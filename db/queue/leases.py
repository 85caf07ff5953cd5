"""The queue itself: claiming, renewing, finishing and healing rows of ``steps``.

A claim commits the attempt before the work begins, so that an attempt which kills its worker counts.
The fence tells a worker that lost its lease from the one that holds it now.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import CursorResult, func, select, text, update
from sqlalchemy.orm import Session

from db.models import Json, Step, StepKind, StepState, step_fence
from db.session import Sessions
from db.settings import Settings

PRIORITY_WAIT_SECONDS = 30.0
"""Seconds of waiting that outweigh one step of precedence: bounds how long a low priority can wait."""

MAX_RETRY_PAUSE_SECONDS = 30.0
"""Seconds between two attempts while a server below us is away, at most."""

MAX_RANKED_JOBS = 32
"""Only so many of the longest-waiting jobs are ranked: claiming stays cheap with thousands queued."""

# Fair order across jobs: a step's place within its own job, plus what the job already has in work, divided by
# its weight, less how long the job has waited. Ten hours of audio so never starve one minute. A tenant gets no
# more than its limit, counted over what it has in work.
CLAIMABLE = text("""
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
    ), tenants AS (
        SELECT name, coalesce((CAST(:limits AS jsonb) ->> name)::int, (CAST(:limits AS jsonb) ->> '*')::int)
               - (SELECT count(*) FROM steps w JOIN jobs o ON o.id = w.job_id
                  WHERE w.state = 'leased' AND w.kind = :kind AND o.tenant = name) AS room
        FROM (SELECT DISTINCT tenant AS name FROM waiting WHERE CAST(:limits AS jsonb) <> '{}') t
    ), lanes AS (
        SELECT w.*, t.room FROM waiting w LEFT JOIN tenants t ON t.name = w.tenant
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


@dataclass(frozen=True, slots=True)
class Claim:
    """A leased step: the right to commit its result while the fence holds."""

    id: int
    job_id: uuid.UUID
    kind: StepKind
    chunk: int | None
    attempt: int
    fence: int | None
    outages: int = 0

    @property
    def chunk_index(self) -> int:
        if self.chunk is None:
            raise ValueError(f"{self.kind} step {self.id} belongs to no chunk")
        return self.chunk


CLAIMED = (Step.id, Step.job_id, Step.kind, Step.chunk, Step.attempt, Step.fence, Step.outages)
"""The columns of a ``Claim``."""


def claim(
    sessions: Sessions, kind: StepKind, limit: int, worker: str, settings: Settings, *, retries: bool = True
) -> list[Claim]:
    """Lease up to ``limit`` ready steps of a kind, in fair order over jobs.

    A step that has failed before runs alone in its batch, and not at all without ``retries``: should it kill its
    worker, its neighbours keep their attempts.
    """
    with sessions.begin() as session:
        if settings.tenant_limits:
            # two workers that count at once would both find the last place free
            session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"claim {kind}"))))
        rows = session.execute(CLAIMABLE, claimable(kind, limit, settings, retries=retries)).all()
        if not rows:
            return []
        first_tries = [row.id for row in rows if row.attempt == 0]
        ids = [rows[0].id] if rows[0].attempt > 0 else first_tries
        leased = session.execute(
            update(Step)
            .where(Step.id.in_(ids))
            .values(
                state=StepState.LEASED,
                attempt=Step.attempt + 1,
                fence=step_fence.next_value(),
                lease_until=func.clock_timestamp() + timedelta(seconds=settings.lease_seconds),
                claimed_at=func.clock_timestamp(),
                worker=worker,
            )
            .returning(*CLAIMED)
        ).all()
    order = {id_: place for place, id_ in enumerate(ids)}
    return sorted((Claim(*row) for row in leased), key=lambda claimed: order[claimed.id])


def claimable(kind: StepKind, limit: int, settings: Settings, *, retries: bool = True) -> Json:
    """The parameters of ``CLAIMABLE``."""
    return {
        "kind": kind,
        "limit": limit,
        # deeper than the limit, since another worker may hold the first rows locked
        "depth": 4 * limit + 8,
        "lanes": MAX_RANKED_JOBS,
        "patience": PRIORITY_WAIT_SECONDS,
        "retries": retries,
        "limits": json.dumps(settings.tenant_limits),
    }


def renew(sessions: Sessions, claims: Sequence[Claim], settings: Settings) -> set[int]:
    """Extend the leases that still hold; returns the ids of those that do."""
    with sessions.begin() as session:
        rows = session.execute(
            update(Step)
            .where(
                Step.id.in_([c.id for c in claims]),
                Step.fence.in_([c.fence for c in claims]),
                Step.state == StepState.LEASED,
            )
            .values(lease_until=func.clock_timestamp() + timedelta(seconds=settings.lease_seconds))
            .returning(Step.id)
        )
        return {row.id for row in rows}


def is_held(session: Session, claimed: Claim) -> bool:
    """Whether the claim may still commit; the job's row must be locked."""
    state = session.scalar(select(Step.state).where(Step.id == claimed.id, Step.fence == claimed.fence))
    return state == StepState.LEASED


def is_done(session: Session, claimed: Claim) -> bool:
    """Whether this very claim has finished its step: a commit may succeed without its worker hearing of it."""
    state = session.scalar(select(Step.state).where(Step.id == claimed.id, Step.fence == claimed.fence))
    return state == StepState.DONE


def _update_held(session: Session, claimed: Claim, **values: object) -> bool:
    statement = update(Step).where(
        Step.id == claimed.id, Step.fence == claimed.fence, Step.state == StepState.LEASED
    )
    result = session.execute(statement.values(lease_until=None, **values))
    return isinstance(result, CursorResult) and result.rowcount == 1


def finish(session: Session, claimed: Claim, result: Json | None) -> bool:
    """Mark the step done; False when the lease was lost, and nothing may be committed."""
    return _update_held(session, claimed, state=StepState.DONE, result=result, finished_at=func.now())


def mark_dead(session: Session, claimed: Claim, error: str) -> bool:
    """Set the step aside for good."""
    return _update_held(session, claimed, state=StepState.DEAD, error=error, finished_at=func.now())


def schedule_retry(session: Session, claimed: Claim, error: str, delay: float) -> bool:
    """Hand the step back, to be tried again after ``delay`` seconds."""
    after = func.clock_timestamp() + timedelta(seconds=delay)
    return _update_held(session, claimed, state=StepState.READY, error=error, run_after=after)


def requeue(session: Session, claimed: Claim, reason: str, *, delay: float = 0, outage: bool = False) -> bool:
    """Make the step ready as if this attempt had not been: its own work was not at fault."""
    after = func.clock_timestamp() + timedelta(seconds=delay)
    return _update_held(
        session,
        claimed,
        state=StepState.READY,
        error=reason,
        run_after=after,
        attempt=Step.attempt - 1,
        outages=Step.outages + int(outage),
    )


def backoff(attempt: int, settings: Settings, longest: float = float("inf")) -> float:
    """Seconds before the next attempt: doubling, with full jitter on the upper half."""
    ceiling = min(longest, settings.retry_seconds * 2.0 ** min(attempt - 1, 30))
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311  (jitter, not a secret)
