"""Leases of claimed steps: renewing, checking and ending them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, Text, and_, cast, func, null, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from db.models import Json, Step, StepState
from db.queue.claims import Claim
from db.session import Sessions
from db.settings import Settings

MAX_OUTAGE_PAUSE_SECONDS = 30.0
"""Longest pause between two attempts while Postgres, Redis or S3 is unreachable."""


def renew(sessions: Sessions, claims: Sequence[Claim], settings: Settings) -> set[int]:
    """Extend the leases that are still held, and return the ids of those steps."""
    with sessions.begin() as session:
        rows = session.execute(
            update(Step)
            .where(_held(claims))
            .values(lease_until=func.clock_timestamp() + timedelta(seconds=settings.lease_seconds))
            .returning(Step.id)
        )
        return {row.id for row in rows}


def _held(claims: Sequence[Claim]) -> ColumnElement[bool]:
    # no two leases have the same fence
    return and_(
        Step.id.in_([c.id for c in claims]),
        Step.fence.in_([c.fence for c in claims]),
        Step.state == StepState.LEASED,
    )


def is_held(session: Session, *claims: Claim) -> bool:
    """Whether the claims may still commit. The job's row must be locked."""
    held = select(func.count()).where(_held(claims))
    return session.scalar(held) == len(claims)


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


def finish(session: Session, results: Sequence[tuple[Claim, Json | None]]) -> bool:
    """Mark the steps done. False if a lease was lost: nothing may be committed then."""
    claims = [claimed for claimed, _ in results]
    result: ColumnElement[Any] = null()
    if any(each is not None for _, each in results):
        by_step = {str(claimed.id): each for claimed, each in results if each is not None}
        result = cast(by_step, JSONB).op("->")(cast(Step.id, Text))
    done = (
        update(Step)
        .where(_held(claims))
        .values(state=StepState.DONE, lease_until=None, finished_at=func.now(), result=result)
        .execution_options(synchronize_session=False)
    )
    finished = session.execute(done)
    return isinstance(finished, CursorResult) and finished.rowcount == len(claims)


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


def backoff(attempt: int, settings: Settings, longest: float = float("inf")) -> float:
    """Seconds before the next attempt: doubles with each, with jitter on the upper half."""
    ceiling = min(longest, settings.retry_seconds * 2.0 ** min(attempt - 1, 30))
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311  (jitter, not a secret)
