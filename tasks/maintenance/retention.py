"""Retention: removes jobs, recordings and events whose time has come, and old entries of the audit log."""

from __future__ import annotations

import logging
import uuid
from functools import partial

from sqlalchemy import delete, func, select

from db import speakers, uploads
from db.access import audit
from db.erasure import certificates, retention
from db.erasure.deletion import delete_job
from db.models import ErasedKind, Erasure, ErasureReason, JobStatus, LiveSession, Step, StepKind, StepState, Upload
from db.objects.storage import job_prefix, transcript_prefix
from db.queue import retry
from db.queue.transaction import JobTransaction
from db.webhooks import deliveries
from tasks.maintenance import healing
from tasks.maintenance.failures import logging_failures
from tasks.runtime import Runtime
from tasks.transaction import change_job

logger = logging.getLogger(__name__)

EVENTS_AT_ONCE = 100
"""Jobs whose events are removed in one transaction."""


def erase_expired(runtime: Runtime) -> None:
    """Remove whatever is past its retention, beginning with whole jobs."""
    with runtime.sessions() as session:
        expired = retention.expired_jobs(session, runtime.settings)
    for job_id in expired:
        with logging_failures(f"delete job {job_id}, which is past its retention period"):
            if change_job(runtime, job_id, _delete):
                logger.info("job %s is past its retention period and deleted", job_id)
    with runtime.sessions() as session:
        expired = retention.jobs_with_expired_audio(session, runtime.settings)
    for job_id in expired:
        with logging_failures(f"remove the recording of job {job_id}, which is past its retention period"):
            change_job(runtime, job_id, _hide_audio)
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


def _delete(tx: JobTransaction) -> bool:
    """False for a job that was retried or deleted since."""
    job = tx.job
    if not job.status.finished or job.deleted_at is not None:
        return False
    delete_job(tx, ErasureReason.RETENTION, retention.RETENTION)
    audit.note(tx.session, job.tenant, retention.RETENTION, "delete job", job.id)
    return True


def _hide_audio(tx: JobTransaction) -> None:
    """From then on nobody is shown the recording, and what is left of it is sure to be removed."""
    job = tx.job
    # it may have been retried since
    if job.status.finished and job.deleted_at is None and job.audio_erased_at is None:
        job.audio_erased_at = func.now()
        speakers.forget_samples(tx.session, job.id)
        certificates.request(
            tx.session,
            job.tenant,
            ErasedKind.AUDIO,
            job.id,
            reason=ErasureReason.RETENTION,
            requested_by=retention.RETENTION,
        )
        audit.note(tx.session, job.tenant, retention.RETENTION, "erase audio", job.id)


def _erase_audio(runtime: Runtime, erasure: Erasure) -> None:
    """Remove all objects of the job but its transcript: recording, chunks, and what diarization heard in them."""
    job_id = uuid.UUID(erasure.subject)
    with runtime.sessions() as session:
        # of a job that ended before its pieces were tidied up; those of a concatenated upload lie elsewhere
        keys = {piece.key for piece in uploads.parts(session, job_id)}
    below = (key for key, _ in runtime.storage.list(job_prefix(job_id)))
    keys |= {key for key in below if not key.startswith(transcript_prefix(job_id))}
    runtime.remove(keys)
    with runtime.sessions.begin() as session:
        session.execute(delete(Upload).where(Upload.id == job_id))
        session.execute(delete(LiveSession).where(LiveSession.job_id == job_id))
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
            change_job(runtime, job_id, partial(retry.revive_step, kind=StepKind.PURGE))
    healing.list_withdrawn(runtime, JobStatus.FAILED)
    with runtime.sessions.begin() as session:
        certificates.close_leftovers(session)


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
