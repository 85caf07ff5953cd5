"""Starting fine-tunings, and the exports to train on."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db import jobs
from db.models import Export, FineTune, Job, JobPurpose, JobStatus, Sample, StepKind
from db.queue.transaction import JobTransaction


def unused_exports(session: Session, tenant: str) -> tuple[list[uuid.UUID], float]:
    """Complete exports that no fine-tuning has used, oldest first, and the seconds of speech in them."""
    used = (
        select(func.unnest(FineTune.exports))
        .join(Job, Job.id == FineTune.job_id)
        .where(FineTune.tenant == tenant, Job.status != JobStatus.FAILED, Job.status != JobStatus.CANCELLED)
    )
    rows = session.execute(
        select(Export.job_id, func.coalesce(func.sum(Sample.seconds), 0.0))
        .join(Job, Job.id == Export.job_id)
        .outerjoin(Sample, (Sample.export_id == Export.job_id) & Sample.reason.is_(None))
        .where(
            Export.tenant == tenant,
            Export.dry_run.is_(False),
            Job.status == JobStatus.COMPLETED,
            Job.deleted_at.is_(None),
            Export.job_id.not_in(used),
        )
        .group_by(Export.job_id, Export.date)
        .order_by(Export.date, Export.job_id)
    ).all()
    return [row[0] for row in rows], sum(row[1] for row in rows)


def start_finetune(
    session: Session,
    tenant: str,
    exports: Sequence[uuid.UUID],
    seconds: float,
    options: Mapping[str, Any],
    *,
    automatic: bool,
    key_id: uuid.UUID | None = None,
) -> JobTransaction:
    """Enqueue a fine-tuning on some exports."""
    job = jobs.without_recording(tenant, JobPurpose.FINETUNE, key_id=key_id)
    transaction = jobs.create(session, job, StepKind.FINETUNE)
    session.add(
        FineTune(
            job_id=job.id,
            tenant=tenant,
            exports=list(exports),
            seconds=seconds,
            automatic=automatic,
            options=dict(options),
        )
    )
    session.flush()
    return transaction


def has_active(session: Session, tenant: str) -> bool:
    """Whether a fine-tuning of the tenant is queued or processing.

    Takes a lock: until the transaction ends, no other can start.
    """
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"finetune {tenant}"))))
    active = (
        select(Job.id)
        .join(FineTune, FineTune.job_id == Job.id)
        .where(FineTune.tenant == tenant, Job.status.in_((JobStatus.QUEUED, JobStatus.PROCESSING)))
    )
    return session.scalar(active.limit(1)) is not None
