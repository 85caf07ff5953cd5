"""Starting fine-tunings, and the exports to train on."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from db import jobs
from db.models import Export, FineTune, Job, JobPurpose, JobStatus, Role, Sample, StepKind
from db.queue.transaction import JobTransaction
from db.training import versions

NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Material:
    """Complete exports to tune a model on, oldest first. No tuning of this role has used the ``new`` ones."""

    new: tuple[uuid.UUID, ...]
    new_seconds: float
    rehearsed: tuple[uuid.UUID, ...]
    """Older ones, which are gone through again so that they are not forgotten."""

    @property
    def exports(self) -> list[uuid.UUID]:
        return [*self.rehearsed, *self.new]


def material(session: Session, tenant: str, role: Role, max_seconds: float) -> Material:
    """All new exports, and of the older ones the latest that make ``max_seconds`` with them."""
    used = set(session.scalars(_used(tenant, role)))
    complete = session.execute(_complete(tenant)).all()
    new = [(export, seconds) for export, seconds in complete if export not in used]
    total = sum(seconds for _, seconds in new)
    new_seconds, rehearsed = total, list[uuid.UUID]()
    for export, seconds in reversed(complete):
        if export in used and total + seconds <= max_seconds:
            rehearsed.insert(0, export)
            total += seconds
    return Material(tuple(export for export, _ in new), new_seconds, tuple(rehearsed))


def _last_tried(session: Session, tenant: str) -> dict[Role, datetime]:
    """When the latest fine-tuning of each role was started, however it ended."""
    rows = session.execute(
        select(FineTune.role, func.max(Job.created_at))
        .join(Job, Job.id == FineTune.job_id)
        .where(FineTune.tenant == tenant)
        .group_by(FineTune.role)
    )
    return {role: at for role, at in rows}


def _used(tenant: str, role: Role) -> Select[uuid.UUID]:
    return (
        select(func.unnest(FineTune.exports))
        .join(Job, Job.id == FineTune.job_id)
        .where(
            FineTune.tenant == tenant,
            FineTune.role == role,
            Job.status.not_in((JobStatus.FAILED, JobStatus.CANCELLED)),
        )
    )


def _complete(tenant: str) -> Select[uuid.UUID, float]:
    return (
        select(Export.job_id, func.coalesce(func.sum(Sample.seconds), 0.0))
        .join(Job, Job.id == Export.job_id)
        .outerjoin(Sample, (Sample.export_id == Export.job_id) & Sample.reason.is_(None))
        .where(
            Export.tenant == tenant,
            Export.dry_run.is_(False),
            Job.status == JobStatus.COMPLETED,
            Job.deleted_at.is_(None),
        )
        .group_by(Export.job_id, Export.date)
        .order_by(Export.date, Export.job_id)
    )


def start_finetune(
    session: Session,
    tenant: str,
    role: Role,
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
            role=role,
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


def start_next_if_due(
    session: Session, tenant: str, roles: Sequence[Role], min_seconds: float, max_seconds: float
) -> JobTransaction | None:
    """Start a fine-tuning of the first role with enough new speech; one at a time.

    The role that was tried longest ago comes first: one that fails each time keeps no other from its turn.
    """
    session.flush()
    if has_active(session, tenant):
        return None
    tried = _last_tried(session, tenant)
    for role in sorted(roles, key=lambda role: tried.get(role, NEVER)):
        # a new version would replace a canary before its trial ends
        if versions.has_canary(session, tenant, role):
            continue
        found = material(session, tenant, role, max_seconds)
        if found.new_seconds >= min_seconds:
            return start_finetune(session, tenant, role, found.exports, found.new_seconds, {}, automatic=True)
    return None
