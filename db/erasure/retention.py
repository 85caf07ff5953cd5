"""For how long recordings, transcripts and events are kept, by job, tenant and settings."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Numeric, Select, SQLColumnExpression, cast, delete, func, or_, select, update
from sqlalchemy.orm import Session

from db import jobs
from db.erasure import certificates
from db.models import ErasedKind, ErasureReason, Event, Job, JobStatus, Tenant, number_option
from db.settings import Settings

FINISHED = Job.status.in_([status for status in JobStatus if status.finished])
RETENTION = "retention"
"""Who asks for what is erased because its time has come."""


def transcript_days(job: Job, tenant: Tenant | None, settings: Settings) -> float | None:
    """Days after its completion at which a job is deleted; None is never.

    The job's own number, but no more than its tenant's; the settings' where both say nothing.
    """
    own = job.options.get("retain_days")
    given = own if isinstance(own, int | float) else None, tenant.retain_transcript_days if tenant else None
    known = [days for days in given if days is not None]
    return min(known) if known else settings.retain_days


def audio_days(tenant: Tenant | None, settings: Settings) -> float | None:
    """The same for its recording alone."""
    own = tenant.retain_audio_days if tenant else None
    return settings.retain_audio_days if own is None else own


def expired_jobs(session: Session, settings: Settings) -> Sequence[uuid.UUID]:
    """Jobs to be deleted."""
    own = func.least(number_option("retain_days", None), cast(Tenant.retain_transcript_days, Numeric))
    return session.scalars(_expired(own, settings.retain_days, Job.completed_at)).all()


def jobs_with_expired_audio(session: Session, settings: Settings) -> Sequence[uuid.UUID]:
    """Jobs whose recordings are to be removed."""
    query = _expired(Tenant.retain_audio_days, settings.retain_audio_days, Job.completed_at)
    return session.scalars(query.where(Job.audio_erased_at.is_(None))).all()


def erase_expired_events(session: Session, settings: Settings, limit: int) -> int:
    """Remove the events of up to ``limit`` jobs. Returns of how many; there is one certificate for each tenant."""
    expired = _expired(Tenant.retain_events_days, settings.retain_events_days, jobs.LAST_TOLD_AT)
    due = expired.where(or_(Job.events_erased_at.is_(None), Job.events_erased_at < jobs.LAST_TOLD_AT))
    rows = session.execute(
        update(Job)
        .where(Job.id.in_(due.limit(limit).with_for_update(of=Job, skip_locked=True, key_share=True)))
        .values(events_erased_at=func.now())
        .returning(Job.id, Job.tenant)
    ).all()
    gone = session.scalars(
        delete(Event).where(Event.job_id.in_([row.id for row in rows])).returning(Event.job_id)
    ).all()
    events = Counter(gone)
    for tenant, count in Counter(row.tenant for row in rows).items():
        total = sum(events[row.id] for row in rows if row.tenant == tenant)
        certificates.request(
            session,
            tenant,
            ErasedKind.EVENTS,
            tenant,
            reason=ErasureReason.RETENTION,
            requested_by=RETENTION,
            counts={"jobs": count, "events": total},
        )
    return len(rows)


def _expired(
    own: SQLColumnExpression[Any], setting: float | None, since: SQLColumnExpression[Any]
) -> Select[uuid.UUID]:
    """Finished transcriptions that are older than ``own`` days, or the setting's where that is null."""
    days = func.coalesce(cast(own, Numeric), cast(setting, Numeric))
    # compared as numbers: an interval of absurdly many days would be an error, for the jobs of all tenants
    age = func.extract("epoch", func.clock_timestamp() - since)
    return (
        select(Job.id)
        .outerjoin(Tenant, Tenant.name == Job.tenant)
        .where(Job.deleted_at.is_(None), jobs.IS_TRANSCRIPTION, FINISHED, age > days * 86400)
    )
