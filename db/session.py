"""Connections to Postgres."""

from __future__ import annotations

from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker

from db.settings import Settings

Sessions = sessionmaker[Session]


def make_sessions(settings: Settings, *, name: str) -> Sessions:
    """A session factory over a bounded pool; ``name`` shows in ``pg_stat_activity``."""
    engine = create_engine(
        settings.database_url,
        pool_size=settings.database_pool,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=True,
        connect_args={"application_name": f"longhand-{name}", "connect_timeout": 5},
    )
    return sessionmaker(engine, expire_on_commit=False)
