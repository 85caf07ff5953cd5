"""Starting exports of training data, and the transcripts that they cover."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from db import jobs
from db.models import Export, Job, JobPurpose, JobStatus, Json, Sample, StepKind
from db.queue.transaction import JobTransaction
from db.settings import Settings

ALL_TENANTS = "*"


def has_opted_in(settings: Settings, tenant: str) -> bool:
    """Whether transcripts of the tenant may be used for training."""
    return tenant in settings.training_tenants or ALL_TENANTS in settings.training_tenants


def prefix(export: Export) -> str:
    """S3 prefix of an export's files."""
    return f"exports/{export.date.isoformat()}/{export.job_id}/"


def day_bounds(day: date) -> tuple[datetime, datetime]:
    """Start and end of a day in UTC."""
    since = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return since, since + timedelta(days=1)


def start_export(
    session: Session,
    tenant: str,
    since: datetime,
    until: datetime,
    *,
    filters: Json,
    cleaning: Json,
    dry_run: bool = False,
    idempotency_key: str | None = None,
    key_id: uuid.UUID | None = None,
) -> JobTransaction:
    """Enqueue an export of the transcripts that last changed in the span.

    Raises IntegrityError where the idempotency key was used.
    """
    job = jobs.without_recording(tenant, JobPurpose.EXPORT, idempotency_key=idempotency_key, key_id=key_id)
    transaction = jobs.create(session, job, StepKind.EXPORT)
    session.add(
        Export(
            job_id=job.id,
            tenant=tenant,
            date=(until - timedelta(microseconds=1)).date(),
            since=since,
            until=until,
            dry_run=dry_run,
            filters=filters,
            cleaning=cleaning,
        )
    )
    session.flush()
    return transaction


def _changed_between(tenant: str, since: datetime, until: datetime) -> Select[uuid.UUID]:
    return select(Job.id).where(
        Job.tenant == tenant,
        Job.status == JobStatus.COMPLETED,
        Job.deleted_at.is_(None),
        jobs.IS_TRANSCRIPTION,
        since <= jobs.LAST_CHANGED_AT,
        until > jobs.LAST_CHANGED_AT,
    )


def has_transcripts(session: Session, tenant: str, since: datetime, until: datetime) -> bool:
    """Whether any transcript last changed in the span."""
    return session.scalar(_changed_between(tenant, since, until).limit(1)) is not None


def undecided_jobs(session: Session, export: Export) -> Sequence[uuid.UUID]:
    """Jobs of the span that the export has not decided on yet, least recently changed first."""
    decided = select(Sample.job_id).where(Sample.export_id == export.job_id, Sample.job_id == Job.id)
    query = _changed_between(export.tenant, export.since, export.until).where(~decided.exists())
    return session.scalars(query.order_by(jobs.LAST_CHANGED_AT, Job.id)).all()
