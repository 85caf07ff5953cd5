"""Retention: deletes jobs after their retention period."""

from __future__ import annotations

import logging

from sqlalchemy import Float, func, select

from db import jobs
from db.models import Job, StepKind
from db.queue.transaction import JobGone, job_transaction
from tasks.runtime import Runtime
from tasks.transaction import announce

logger = logging.getLogger(__name__)


def delete_expired_jobs(runtime: Runtime) -> None:
    days = func.coalesce(Job.options["retain_days"].astext.cast(Float), runtime.settings.retain_days)
    is_expired = func.clock_timestamp() > Job.completed_at + func.make_interval(0, 0, 0, 0, 0, 0, days * 86400)
    with runtime.sessions() as session:
        job_ids = session.scalars(
            select(Job.id).where(Job.deleted_at.is_(None), jobs.IS_TRANSCRIPTION, is_expired)
        ).all()
    for job_id in job_ids:
        try:
            with job_transaction(runtime.sessions, job_id) as transaction:
                transaction.job.deleted_at = func.now()
                transaction.enqueue(StepKind.PURGE)
        except JobGone:
            continue
        logger.info("job %s is past its retention period and deleted", job_id)
        announce(runtime, transaction)
