"""Numbers for the changes of keys and tenants, in the order of their commits."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import access_revision


def next_revision(session: Session) -> int:
    """The number of a change that this transaction makes.

    One such transaction at a time: who has seen a number has seen all that are lower, so that asking for what
    came after it misses nothing.
    """
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("access_revision", 0))))
    return session.execute(select(access_revision.next_value())).scalar_one()
