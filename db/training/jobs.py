"""What exports and fine-tunings have in common: both are jobs without a recording."""

from __future__ import annotations

import uuid
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Export, FineTune, Job, JobPurpose, Priority


def new_job(
    tenant: str, purpose: JobPurpose, *, idempotency_key: str | None = None, key_id: uuid.UUID | None = None
) -> Job:
    return Job(
        id=uuid.uuid4(),
        tenant=tenant,
        key_id=key_id,
        purpose=purpose,
        priority=Priority.LOW,
        filename="",
        bytes=0,
        sha256="",
        source_key="",
        options={},
        idempotency_key=idempotency_key,
    )


TrainingJob = TypeVar("TrainingJob", Export, FineTune)


def find(
    kind: type[TrainingJob], session: Session, tenant: str, job_id: uuid.UUID
) -> tuple[TrainingJob, Job] | None:
    row = session.execute(_with_job(kind, tenant).where(kind.job_id == job_id)).one_or_none()
    return (row[0], row[1]) if row else None


def newest(kind: type[TrainingJob], session: Session, tenant: str, limit: int) -> list[tuple[TrainingJob, Job]]:
    rows = session.execute(_with_job(kind, tenant).order_by(Job.created_at.desc()).limit(limit))
    return [(row[0], row[1]) for row in rows]


def _with_job(kind: type[TrainingJob], tenant: str) -> Any:
    return (
        select(kind, Job).join(Job, Job.id == kind.job_id).where(kind.tenant == tenant, Job.deleted_at.is_(None))
    )
