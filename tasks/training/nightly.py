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
from tasks.step import announce

logger = logging.getLogger(__name__)

NIGHTS = 7
"""So many past days are made good, if nobody was there to export them."""


def harvest(runtime: Runtime, now: datetime | None = None) -> None:
    """Export the days that are over and not exported yet, in order: each leaves out what those before it have."""
    now = now or datetime.now(UTC)
    last = now.date() - timedelta(days=1 if now.hour >= runtime.settings.export_hour else 2)
    for tenant in _tenants(runtime):
        for back in reversed(range(NIGHTS)):
            if _export(runtime, tenant, last - timedelta(days=back)):
                break


def _tenants(runtime: Runtime) -> list[str]:
    settings = runtime.settings
    if not settings.training_tenants:
        return []
    with runtime.sessions() as session:
        known = session.scalars(select(Job.tenant).distinct().order_by(Job.tenant)).all()
    return [tenant for tenant in known if exports.allowed(settings, tenant)]


def _export(runtime: Runtime, tenant: str, day: date) -> bool:
    """Whether the day's export is under way; started here if it was not."""
    since, until = exports.day(day)
    key = f"longhand-nightly-export-{day.isoformat()}"
    try:
        with runtime.sessions.begin() as session:
            made = jobs.by_idempotency_key(session, tenant, key)
            if made is not None:
                return made.deleted_at is None and not made.status.finished
            if not exports.settled(session, tenant, since, until):
                return False
            transaction = exports.start_export(
                session,
                tenant,
                since,
                until,
                filters=Filters().to_json(),
                cleaning=Cleaning().to_json(),
                key=key,
            )
    except IntegrityError:  # another worker was quicker
        return True
    logger.info("exporting %s of %s", day, tenant)
    announce(runtime, transaction)
    return True
