"""Retention: removes jobs, recordings and events whose time has come, and old entries of the audit log."""

from __future__ import annotations

import logging
import uuid

from sqlalchemy import delete, func, select

from db import uploads
from db.access import audit
from db.erasure import certificates, retention
from db.erasure.deletion import delete_job
from db.models import ErasedKind, Erasure, ErasureReason, JobStatus, Step, StepKind, StepState, Upload
from db.objects.storage import job_prefix, transcript_prefix
from db.queue import retry
from db.queue.transaction import JobGone, job_transaction
from db.webhooks import deliveries
from tasks.maintenance import healing
from tasks.maintenance.failures import logging_failures
from tasks.runtime import Runtime
from tasks.transaction import announce

logger = logging.getLogger(__name__)

EVENTS_AT_ONCE = 100
"""Jobs whose events are removed in one transaction."""


def erase_expired(runtime: Runtime) -> None:
    """Remove whatever is past its retention, beginning with whole jobs."""
    with runtime.sessions() as session:
        expired = retention.expired_jobs(session, runtime.settings)
    for job_id in expired:
        with logging_failures(f"delete job {job_id}, which is past its retention period"):
            _delete(runtime, job_id)
    with runtime.sessions() as session:
        expired = retention.jobs_with_expired_audio(session, runtime.settings)
    for job_id in expired:
        with logging_failures(f"remove the recording of job {job_id}, which is past its retention period"):
            _hide_audio(runtime, job_id)
    with runtime.sessions() as session:
        hidden = session.scalars(
            select(Erasure).where(Erasure.what == ErasedKind.AUDIO.value, Erasure.erased_at.is_(None))
        ).all()
    for erasure in hidden:
        with logging_failures(f"remove the recording of job {erasure.subject}"):
            _erase_audio(runtime, erasure)
    while True:
        with runtime.sessions.begin() as session:
            if not retention.erase_expired_events(session, runtime.settings, EVENTS_AT_ONCE):
                break


def _delete(runtime: Runtime, job_id: uuid.UUID) -> None:
    try:
        with job_transaction(runtime.sessions, job_id) as transaction:
            # it may have been retried since
            if transaction.job.status.finished and transaction.job.deleted_at is None:
                delete_job(transaction, ErasureReason.RETENTION, retention.RETENTION)
                audit.note(transaction.session, transaction.job.tenant, retention.RETENTION, "delete job", job_id)
    except JobGone:
        return
    logger.info("job %s is past its retention period and deleted", job_id)
    announce(runtime, transaction)


def _hide_audio(runtime: Runtime, job_id: uuid.UUID) -> None:
    """From then on nobody is shown the recording, and what is left of it is sure to be removed."""
    try:
        with job_transaction(runtime.sessions, job_id) as transaction:
            job = transaction.job
            # it may have been retried since
            if job.status.finished and job.deleted_at is None and job.audio_erased_at is None:
                job.audio_erased_at = func.now()
                certificates.request(
                    transaction.session,
                    job.tenant,
                    ErasedKind.AUDIO,
                    job_id,
                    reason=ErasureReason.RETENTION,
                    requested_by=retention.RETENTION,
                )
                audit.note(transaction.session, job.tenant, retention.RETENTION, "erase audio", job_id)
    except JobGone:
        return


def _erase_audio(runtime: Runtime, erasure: Erasure) -> None:
    """Remove all objects of the job but its transcript: recording, chunks, and what diarization heard in them."""
    job_id = uuid.UUID(erasure.subject)
    with runtime.sessions() as session:
        # of a job that ended before its pieces were tidied up; those of a concatenated upload lie elsewhere
        keys = {piece.key for piece in uploads.parts(session, job_id)}
    below = (key for key, _ in runtime.storage.list(job_prefix(job_id)))
    keys |= {key for key in below if not key.startswith(transcript_prefix(job_id))}
    runtime.storage.delete(keys)
    with runtime.sessions.begin() as session:
        session.execute(delete(Upload).where(Upload.id == job_id))
        certificates.certify(session, erasure.id, {"objects": len(keys)})
    logger.info("the recording of job %s is past its retention period and removed", job_id)


def finish_erasures(runtime: Runtime) -> None:
    """See to what was to be erased and could not be, for longer than steps try."""
    with runtime.sessions() as session:
        dead = session.scalars(
            select(Step.job_id).where(Step.kind == StepKind.PURGE, Step.state == StepState.DEAD)
        ).all()
    for job_id in dead:
        with logging_failures(f"purge job {job_id} again"):
            _purge_again(runtime, job_id)
    healing.list_withdrawn(runtime, JobStatus.FAILED)
    with runtime.sessions.begin() as session:
        certificates.close_leftovers(session)


def _purge_again(runtime: Runtime, job_id: uuid.UUID) -> None:
    try:
        with job_transaction(runtime.sessions, job_id) as transaction:
            retry.revive_step(transaction, StepKind.PURGE)
    except JobGone:
        return
    announce(runtime, transaction)


def delete_old_audit_entries(runtime: Runtime) -> None:
    """Apart from everything else that is removed: the log outlives jobs and tenants."""
    if runtime.settings.audit_days is not None:
        gone = audit.delete_older(runtime.sessions, runtime.settings.audit_days)
        if gone:
            logger.info("%d entries of the audit log were past their %g days", gone, runtime.settings.audit_days)


def delete_old_deliveries(runtime: Runtime) -> None:
    gone = deliveries.delete_older(runtime.sessions, runtime.settings.webhook_days)
    if gone:
        logger.info("%d deliveries of webhooks were past their %g days", gone, runtime.settings.webhook_days)
