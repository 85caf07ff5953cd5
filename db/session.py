"""Connections to Postgres."""

from __future__ import annotations

from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker

from db.settings import Settings

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


def make_sessions(settings: Settings, *, name: str) -> Sessions:
    """A session factory over a bounded pool. ``name`` is shown in ``pg_stat_activity``."""
    engine = create_engine(
        settings.database_url,
        pool_size=settings.database_pool,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=True,
        hide_parameters=True,  # they hold what people said
        connect_args={
            "application_name": f"longhand-{name}",
            "options": " ".join(f"-c {name}={seconds}s" for name, seconds in TIMEOUTS.items()),
            "prepare_threshold": 5 if settings.database_prepare else None,
            **LIVENESS_OPTIONS,
        },
    )
    return sessionmaker(engine, expire_on_commit=False)
