"""Connections to Postgres."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import sqlalchemy
from sqlalchemy import Engine, PoolProxiedConnection, QueuePool, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from db.settings import Settings
from db.telemetry import metrics

Sessions = sessionmaker[Session]

TIMEOUTS = {
    # a process frozen in a transaction must not hold a job's lock for ever
    "idle_in_transaction_session_timeout": 10,
    "lock_timeout": 10,
    "statement_timeout": 60,
}
"""In seconds. Postgres ends what takes longer. None of our transactions comes close."""


LIVENESS_OPTIONS = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,  # milliseconds
}
"""A server that vanishes without a word is noticed within half a minute, instead of two hours."""


CHECKED_AFTER_SECONDS = 1.0
"""A server takes longer to start again: a connection that was used since is not asked whether it is alive."""


def make_sessions(settings: Settings, *, name: str) -> Sessions:
    """A session factory over a bounded pool. ``name`` is shown in ``pg_stat_activity``."""
    # looked up when it is called: traces replace it
    engine = sqlalchemy.create_engine(
        settings.database_url,
        poolclass=MeasuredPool,
        pool_size=settings.database_pool,
        max_overflow=0,
        pool_timeout=10,
        hide_parameters=True,  # they hold what people said
        connect_args={
            "application_name": f"longhand-{name}",
            "options": " ".join(f"-c {name}={seconds}s" for name, seconds in TIMEOUTS.items()),
            "prepare_threshold": 5 if settings.database_prepare else None,
            **LIVENESS_OPTIONS,
        },
    )
    _check_idle_connections(engine)
    _measure_statements(engine)
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def autocommit(sessions: Sessions) -> Iterator[Session]:
    """A session whose statements are transactions of their own: one way to the server and back, not three."""
    with sessions() as session:
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        yield session


_pools: WeakSet[MeasuredPool] = WeakSet()
metrics.pool_size.set_function(lambda: sum(pool.size() for pool in list(_pools)))
metrics.pool_used.set_function(lambda: sum(pool.checkedout() for pool in list(_pools)))


class MeasuredPool(QueuePool):
    """A pool that tells how long its connections are waited for, and how many are in use."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        _pools.add(self)

    def connect(self) -> PoolProxiedConnection:
        with metrics.pool_wait.time():
            return super().connect()


def _measure_statements(engine: Engine) -> None:
    def before(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        context.began = time.perf_counter()

    def after(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        metrics.observe(metrics.statement_seconds, time.perf_counter() - context.began)

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)


def _check_idle_connections(engine: Engine) -> None:
    """Ask connections that were not used for a moment whether they are alive, before they are used.

    Those in steady use are not asked, as that would be one more way to the server and back each time.
    """

    @event.listens_for(engine, "checkin")
    def note(_: object, record: ConnectionPoolEntry) -> None:
        record.info["used_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def check(connection: DBAPIConnection, record: ConnectionPoolEntry, _: object) -> None:
        used_at = record.info.get("used_at")
        if used_at is None or time.monotonic() - used_at < CHECKED_AFTER_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            # the others of the pool were opened to the same server
            raise InvalidatePoolError("the connection is dead") from error
