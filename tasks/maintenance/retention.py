"""Retention: deletes jobs after their retention period."""

from __future__ import annotations

import logging
import uuid

from sqlalchemy import func, select

from db import jobs
from db.access import audit
from db.models import Job, StepKind, number_option
from db.queue.transaction import JobGone, job_transaction
from db.webhooks import deliveries
from tasks.maintenance.failures import logging_failures
from tasks.runtime import Runtime
from tasks.transaction import announce

logger = logging.getLogger(__name__)


def delete_expired_jobs(runtime: Runtime) -> None:
    days = number_option("retain_days", runtime.settings.retain_days)
    # compared as numbers: an interval of absurdly many days would be an error, for the jobs of all tenants
    is_expired = func.extract("epoch", func.clock_timestamp() - Job.completed_at) > days * 86400
    with runtime.sessions() as session:
        job_ids = session.scalars(
            select(Job.id).where(Job.deleted_at.is_(None), jobs.IS_TRANSCRIPTION, is_expired)
        ).all()
    for job_id in job_ids:
        with logging_failures(f"delete job {job_id}, which is past its retention period"):
            _delete(runtime, job_id)


def _delete(runtime: Runtime, job_id: uuid.UUID) -> None:
    try:
        with job_transaction(runtime.sessions, job_id) as transaction:
            transaction.job.deleted_at = func.now()
            transaction.enqueue(StepKind.PURGE)
            audit.note(transaction.session, transaction.job.tenant, "retention", "delete job", job_id)
    except JobGone:
        return
    logger.info("job %s is past its retention period and deleted", job_id)
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
