"""Deleting a job: it is hidden at once, and a step removes its data."""

from __future__ import annotations

import uuid

from sqlalchemy import func

from db.erasure import certificates
from db.models import READING_STEPS, ErasedKind, ErasureReason, Job, JobPurpose, StepKind
from db.queue.transaction import JobTransaction


def delete_job(
    tx: JobTransaction, reason: ErasureReason, requested_by: str, *, part_of: uuid.UUID | None = None
) -> None:
    """Hide the job, which must be finished, and have its data removed. Twice is once."""
    if tx.job.deleted_at is not None:
        return
    tx.job.deleted_at = func.now()
    # a finished job may still be read; the step that deletes an enrolment is to end as done
    tx.skip_open_steps((*READING_STEPS.values(), StepKind.INDEX))
    tx.enqueue(StepKind.PURGE)
    request_certificate(tx, reason, requested_by, part_of=part_of)


def request_certificate(
    tx: JobTransaction, reason: ErasureReason, requested_by: str, *, part_of: uuid.UUID | None = None
) -> uuid.UUID:
    """Returns the id of the erasure. ``part_of`` is the one of a person, which waits for it."""
    return certificates.request(
        tx.session,
        tx.job.tenant,
        _kind(tx.job),
        tx.job.id,
        reason=reason,
        requested_by=requested_by,
        part_of=part_of,
    )


def _kind(job: Job) -> ErasedKind:
    if job.purpose == JobPurpose.EXPORT:
        return ErasedKind.EXPORT
    return ErasedKind.ENROLMENT if job.voice_id is not None else ErasedKind.JOB
