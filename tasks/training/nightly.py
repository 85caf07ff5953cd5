"""The nightly export of every tenant that has opted in."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from db import jobs
from db.models import Job
from db.training import exports
from speech.training.dataset.filters import Filters
from speech.training.dataset.text import Cleaning
from tasks.runtime import Runtime
from tasks.transaction import announce

logger = logging.getLogger(__name__)

MAX_DAYS_BACK = 7
"""Days that were missed are exported later, up to this many."""


def start_nightly_exports(runtime: Runtime, now: datetime | None = None) -> None:
    """Export the days that have ended and are not exported yet.

    One day at a time, oldest first: each export leaves out what those before it accepted.
    """
    now = now or datetime.now(UTC)
    last = now.date() - timedelta(days=1 if now.hour >= runtime.settings.export_hour else 2)
    for tenant in _tenants(runtime):
        for days_back in reversed(range(MAX_DAYS_BACK)):
            if _ensure_started(runtime, tenant, last - timedelta(days=days_back)):
                break


def _tenants(runtime: Runtime) -> list[str]:
    settings = runtime.settings
    if not settings.training_tenants:
        return []
    with runtime.sessions() as session:
        tenants = session.scalars(select(Job.tenant).distinct().order_by(Job.tenant)).all()
    return [tenant for tenant in tenants if exports.has_opted_in(settings, tenant)]


def _ensure_started(runtime: Runtime, tenant: str, day: date) -> bool:
    """Whether the day's export is unfinished. Starts it where it is missing and there are transcripts."""
    since, until = exports.day_bounds(day)
    key = f"longhand-nightly-export-{day.isoformat()}"
    try:
        with runtime.sessions.begin() as session:
            existing = jobs.by_idempotency_key(session, tenant, key)
            if existing is not None:
                return existing.deleted_at is None and not existing.status.finished
            if not exports.has_transcripts(session, tenant, since, until):
                return False
            transaction = exports.start_export(
                session,
                tenant,
                since,
                until,
                filters=Filters().to_json(),
                cleaning=Cleaning().to_json(),
                idempotency_key=key,
            )
    except IntegrityError:  # another worker started it
        return True
    logger.info("exporting %s of %s", day, tenant)
    announce(runtime, transaction)
    return True
