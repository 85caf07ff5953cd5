"""Removing objects that rows have named, which waits while a backup copies them.

A backup dumps the database, then copies the objects: what the dump names has to stay until then. So whoever
removes an object asks here first, after the commit from which on no row names it. If no backup is under way, one
that begins later has that commit in its dump. What no row ever named is removed without asking.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.errors import LockNotAvailable
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from db.session import Sessions

LOCK = 0x10A6_BAC0
"""Key of the advisory lock that a backup holds: an arbitrary constant."""


class HoldTaken(Exception):
    """Another backup is under way."""


class HoldLost(Exception):
    """The connection was lost meanwhile: objects may have been removed since."""


def is_held(sessions: Sessions) -> bool:
    """Whether a backup is under way. Asked in a transaction of its own."""
    with sessions.begin() as session:
        return not session.scalar(select(func.pg_try_advisory_xact_lock_shared(LOCK)))


@contextmanager
def hold(sessions: Sessions) -> Iterator[None]:
    """Have everybody keep the objects that rows name or named, until the block ends.

    Raises HoldTaken, and HoldLost after a block during which the connection was lost.
    """
    # no transaction: the session alone holds the lock, however long that takes
    with sessions.kw["bind"].connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        try:
            connection.execute(select(func.pg_advisory_lock(LOCK)))
        except DBAPIError as error:
            if isinstance(error.orig, LockNotAvailable):
                raise HoldTaken from error
            raise
        try:
            yield
        except BaseException:
            # the session ends, and the lock with it
            connection.invalidate()
            raise
        try:
            held = connection.scalar(select(func.pg_advisory_unlock(LOCK)))
        except DBAPIError as error:
            raise HoldLost from error
        if not held:
            raise HoldLost
