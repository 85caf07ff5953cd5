"""Finding exports and fine-tunings with their jobs."""

from __future__ import annotations

import uuid
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Export, FineTune, Job

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
