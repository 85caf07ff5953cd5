"""Periodic work of which one process does a round at a time, from where the last one ended.

The claim is a row with a lease, and no lock of a session: behind a pool of connections a session is nobody's own.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy import func, or_, text, update

from db.models import Round
from db.session import Sessions, autocommit

SWEEP = "sweep"
HEALING = "healing"
LEASE = timedelta(minutes=30)

BEGIN_QUERY = text("""
    UPDATE rounds SET done_until = clock_timestamp()
    WHERE name IN (
        SELECT name FROM rounds
        WHERE name = :name
          AND done_until NOT BETWEEN clock_timestamp() - make_interval(secs => :seconds) AND clock_timestamp()
        FOR UPDATE SKIP LOCKED)
    RETURNING name
""")


class RoundLost(Exception):
    """Another process has taken the round over."""


class ClaimedRound:
    """The right to do a round: of what happened from ``since`` to ``until``, by the clock of Postgres."""

    def __init__(self, sessions: Sessions, name: str, claim: uuid.UUID, since: datetime, until: datetime) -> None:
        self._sessions, self._name, self._claim = sessions, name, claim
        self.since, self.until = since, until

    def advance(self, done_until: datetime | None = None) -> None:
        """Go on for another lease; what happened before ``done_until`` is dealt with. Raises RoundLost."""
        values: dict[str, object] = {"claimed_until": func.clock_timestamp() + LEASE}
        if done_until is not None:
            values["done_until"] = done_until
        self._update(**values)

    def release(self) -> None:
        """Raises RoundLost."""
        self._update(claim=None, claimed_until=None)

    def _update(self, **values: object) -> None:
        statement = update(Round).where(Round.name == self._name, Round.claim == self._claim).values(values)
        with self._sessions.begin() as session:
            if session.scalar(statement.returning(Round.name)) is None:
                raise RoundLost(self._name)


def begin(sessions: Sessions, name: str, seconds: float) -> bool:
    """Whether the last round, whoever made it, began so many seconds ago. If so, one begins now.

    This is for rounds that are short, and may be repeated. One that began in the future was timed by a clock that
    was wrong.
    """
    with autocommit(sessions) as session:
        return session.scalar(BEGIN_QUERY, {"name": name, "seconds": seconds}) is not None


@contextmanager
def claimed(sessions: Sessions, name: str) -> Iterator[ClaimedRound | None]:
    """The round, for the length of the block; None while another process is at it."""
    claim = uuid.uuid4()
    free = or_(Round.claimed_until.is_(None), Round.claimed_until < func.clock_timestamp())
    with sessions.begin() as session:
        row = session.execute(
            update(Round)
            .where(Round.name == name, free)
            .values(claim=claim, claimed_until=func.clock_timestamp() + LEASE)
            .returning(Round.done_until, func.clock_timestamp())
        ).one_or_none()
    if row is None:
        yield None
        return
    turn = ClaimedRound(sessions, name, claim, *row)
    yield turn
    # where the block raised, the lease runs out by itself
    turn.release()
