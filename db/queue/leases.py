"""Leases of claimed steps: renewing, checking and ending them, and beginning anew."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

from sqlalchemy import CursorResult, func, select, text, update
from sqlalchemy.orm import Session

from db.models import Json, Step, StepKind, StepState
from db.queue.claims import Claim
from db.session import Sessions
from db.settings import Settings

MAX_OUTAGE_PAUSE_SECONDS = 30.0
"""Longest pause between two attempts while Postgres, Redis or S3 is unreachable."""


# no two leases have the same fence
_HELD = "id = ANY(CAST(:steps AS bigint[])) AND fence = ANY(CAST(:fences AS bigint[])) AND state = 'leased'"

RENEW_QUERY = text(f"""
    WITH free AS MATERIALIZED (SELECT id FROM steps WHERE {_HELD} FOR NO KEY UPDATE SKIP LOCKED), renewed AS (
        UPDATE steps SET lease_until = clock_timestamp() + make_interval(secs => :seconds)
        FROM free WHERE steps.id = free.id)
    SELECT s.id, free.id IS NOT NULL FROM (SELECT id FROM steps WHERE {_HELD}) s LEFT JOIN free USING (id)
""")  # noqa: S608

FINISH_QUERY = text(f"""
    UPDATE steps SET state = 'done', lease_until = NULL, finished_at = now(),
                     result = CAST(:results AS jsonb) -> CAST(id AS text)
    WHERE {_HELD}
""")  # noqa: S608


AS_NEW = {
    "state": StepState.READY,
    "attempt": 0,
    "outages": 0,
    "error": None,
    "finished_at": None,
    "created_at": func.clock_timestamp(),
}
"""Of a step that is made ready again, whatever became of it."""


def _held(claims: Collection[Claim]) -> Json:
    return {"steps": [claim.id for claim in claims], "fences": [claim.fence for claim in claims]}


def renew(sessions: Sessions, claims: Sequence[Claim], settings: Settings) -> Mapping[int, bool]:
    """Extend the leases that are still held. Returns the ids of those steps, and whether each was extended.

    A step that somebody has locked, as its worker does while it commits, is not waited for.
    """
    with sessions.begin() as session:
        rows = session.execute(RENEW_QUERY, _held(claims) | {"seconds": settings.lease_seconds})
        return {step: renewed for step, renewed in rows}


def is_done(session: Session, claimed: Claim) -> bool:
    """Whether this claim has finished its step: a commit can succeed and its confirmation get lost."""
    state = session.scalar(select(Step.state).where(Step.id == claimed.id, Step.fence == claimed.fence))
    return state == StepState.DONE


def is_expired(session: Session, claimed: Claim) -> bool:
    """Whether the lease has run out. The job's row must be locked."""
    until = select(Step.lease_until < func.clock_timestamp()).where(Step.id == claimed.id)
    return bool(session.scalar(until))


def _update_held(session: Session, claimed: Claim, **values: object) -> bool:
    statement = update(Step).where(
        Step.id == claimed.id, Step.fence == claimed.fence, Step.state == StepState.LEASED
    )
    result = session.execute(statement.values(lease_until=None, **values))
    return isinstance(result, CursorResult) and result.rowcount == 1


def finish(session: Session, results: Mapping[Claim, Json]) -> bool:
    """Mark the steps done. False if a lease was lost: nothing may be committed then."""
    by_step = {str(claimed.id): result for claimed, result in results.items() if result}
    finished = session.execute(FINISH_QUERY, _held(results) | {"results": json.dumps(by_step)})
    return isinstance(finished, CursorResult) and finished.rowcount == len(results)


def mark_dead(session: Session, claimed: Claim, error: str) -> bool:
    """Never try the step again."""
    return _update_held(session, claimed, state=StepState.DEAD, error=error, finished_at=func.now())


def schedule_retry(session: Session, claimed: Claim, error: str, delay: float) -> bool:
    """Make the step ready for its next attempt after ``delay`` seconds."""
    after = func.clock_timestamp() + timedelta(seconds=delay)
    return _update_held(session, claimed, state=StepState.READY, error=error, run_after=after)


def requeue(session: Session, claimed: Claim, reason: str, *, delay: float = 0, outage: bool = False) -> bool:
    """Make the step ready again without counting this attempt: the step was not at fault."""
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


def begin_again(session: Session, job_id: uuid.UUID, kind: StepKind) -> None:
    """Run a step of the job anew, if there is one. The result of one that is at work will be discarded."""
    fresh = AS_NEW | {"run_after": func.clock_timestamp(), "lease_until": None}
    session.execute(update(Step).where(Step.job_id == job_id, Step.kind == kind).values(fresh))


def backoff(attempt: int, settings: Settings, longest: float = float("inf")) -> float:
    """Seconds before the next attempt: doubles with each, with jitter on the upper half."""
    ceiling = min(longest, settings.retry_seconds * 2.0 ** min(attempt - 1, 30))
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311  (jitter, not a secret)
