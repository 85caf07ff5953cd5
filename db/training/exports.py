"""Exports of training data and fine-tunings: made as jobs, so that they are queued, healed and watched as such."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from db import jobs
from db.models import (
    Export,
    Job,
    JobPurpose,
    JobStatus,
    Json,
    Sample,
    StepKind,
)
from db.queue.transaction import JobTransaction
from db.settings import Settings
from db.training.jobs import new_job

EVERYBODY = "*"
SETTLED = func.coalesce(Job.corrected_at, Job.completed_at)
"""When a transcript last changed."""


def allowed(settings: Settings, tenant: str) -> bool:
    """Whether the tenant has opted in to being trained on."""
    return tenant in settings.training_tenants or EVERYBODY in settings.training_tenants


def prefix(export: Export) -> str:
    """Where an export lies in the bucket."""
    return f"exports/{export.date.isoformat()}/{export.job_id}/"


def day(of: date) -> tuple[datetime, datetime]:
    """Its beginning and end in UTC."""
    since = datetime(of.year, of.month, of.day, tzinfo=UTC)
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
    key: str | None = None,
) -> JobTransaction:
    """Enqueue an export of what was settled in the span. Raises IntegrityError where the key was used."""
    job = new_job(tenant, JobPurpose.EXPORT, key)
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


def _settled(tenant: str, since: datetime, until: datetime) -> Select[uuid.UUID]:
    """Transcripts that last changed within the span."""
    return select(Job.id).where(
        Job.tenant == tenant,
        Job.status == JobStatus.COMPLETED,
        Job.deleted_at.is_(None),
        jobs.IS_TRANSCRIPTION,
        since <= SETTLED,
        until > SETTLED,
    )


def settled(session: Session, tenant: str, since: datetime, until: datetime) -> bool:
    """Whether there is anything to export."""
    return session.scalar(_settled(tenant, since, until).limit(1)) is not None


def jobs_to_export(session: Session, export: Export) -> Sequence[uuid.UUID]:
    """Jobs of the window that the export has not decided on yet, in the order in which they settled."""
    decided = select(Sample.job_id).where(Sample.export_id == export.job_id, Sample.job_id == Job.id)
    query = _settled(export.tenant, export.since, export.until).where(~decided.exists())
    return session.scalars(query.order_by(SETTLED, Job.id)).all()
