"""Jobs: creating, finding and listing them."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Select, func, or_, select, tuple_
from sqlalchemy.orm import Session

from db.models import CollectionJob, EventType, Job, JobPurpose, JobStatus, Priority, StepKind
from db.queue.transaction import JobTransaction, write_gathered
from db.telemetry import tracing

IS_TRANSCRIPTION = (Job.purpose == JobPurpose.RECORDING) & Job.voice_id.is_(None)
"""The jobs that users see as such: neither enrolments nor training."""

LAST_CHANGED_AT = func.coalesce(Job.corrected_at, Job.completed_at)
"""When a transcript last changed."""

LAST_TOLD_AT = func.greatest(LAST_CHANGED_AT, Job.read_at)
"""When the last event of a finished job was."""


NEWEST = Job.created_at.desc(), Job.id.desc()


def create(session: Session, job: Job, first_step: StepKind = StepKind.INGEST) -> JobTransaction:
    """Insert a job with its first step and event. The new row stays locked until the transaction ends.

    What is emitted besides has to be written (``write_gathered``).
    """
    job.trace = tracing.current_parent()
    session.add(job)
    session.flush()
    transaction = JobTransaction(session, job)
    transaction.emit(EventType.JOB_QUEUED, {"filename": job.filename, "bytes": job.bytes})
    transaction.enqueue(first_step)
    write_gathered([transaction])
    return transaction


def fail(transaction: JobTransaction, code: str, message: str) -> None:
    """End a job that has not ended yet."""
    job = transaction.job
    job.status = JobStatus.FAILED
    job.error_code, job.error_message = code, message
    job.completed_at = func.now()
    transaction.skip_open_steps()
    transaction.emit(EventType.JOB_FAILED, {"error": {"code": code, "message": message}})


def without_recording(
    tenant: str, purpose: JobPurpose, *, idempotency_key: str | None = None, key_id: uuid.UUID | None = None
) -> Job:
    """An export, a fine-tuning or the erasure of a person, to be created."""
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


def get(session: Session, tenant: str, job_id: uuid.UUID) -> Job | None:
    """The tenant's job, unless it was deleted."""
    return session.scalar(
        select(Job).where(Job.id == job_id, Job.tenant == tenant, Job.deleted_at.is_(None), IS_TRANSCRIPTION)
    )


def named(session: Session, tenant: str, job_ids: Collection[uuid.UUID]) -> Sequence[Job]:
    """Those of the jobs that the tenant has, newest first."""
    query = select(Job).where(
        Job.id.in_(job_ids), Job.tenant == tenant, Job.deleted_at.is_(None), IS_TRANSCRIPTION
    )
    return session.scalars(query.order_by(*NEWEST)).all()


def by_idempotency_key(session: Session, tenant: str, key: str) -> Job | None:
    return session.scalar(select(Job).where(Job.tenant == tenant, Job.idempotency_key == key))


def tagged(tag: str) -> ColumnElement[bool]:
    return Job.tags.contains([tag])


def ids_in(collection: uuid.UUID) -> Select[uuid.UUID]:
    """The ids of the jobs in a collection."""
    return select(CollectionJob.job_id).where(CollectionJob.collection_id == collection)


def page(
    session: Session,
    tenant: str,
    *,
    limit: int,
    statuses: Collection[JobStatus] = (),
    containing: str | None = None,
    tag: str | None = None,
    collection: uuid.UUID | None = None,
    after: tuple[datetime, uuid.UUID] | None = None,
) -> Sequence[Job]:
    """Up to ``limit`` jobs, newest first, from behind the (created_at, id) in ``after``.

    ``statuses``: in one of these, where any is named. ``containing``: with this in the recording's title, its
    name, or the label of its source, in whatever case. ``tag``, ``collection``: with this tag, in this collection.
    """
    query = select(Job).where(Job.tenant == tenant, Job.deleted_at.is_(None), IS_TRANSCRIPTION)
    if statuses:
        query = query.where(Job.status.in_(statuses))
    if containing is not None:
        searched = (Job.title, Job.filename, Job.options["source"].astext)
        query = query.where(or_(*(column.icontains(containing, autoescape=True) for column in searched)))
    if tag is not None:
        query = query.where(tagged(tag))
    if collection is not None:
        query = query.where(Job.id.in_(ids_in(collection)))
    if after is not None:
        query = query.where(tuple_(Job.created_at, Job.id) < after)
    return session.scalars(query.order_by(*NEWEST).limit(limit)).all()


def ended_between(session: Session, since: datetime, until: datetime) -> Sequence[uuid.UUID]:
    """Jobs that ended after the first of the times, and not after the second."""
    return session.scalars(select(Job.id).where(Job.completed_at > since, Job.completed_at <= until)).all()
