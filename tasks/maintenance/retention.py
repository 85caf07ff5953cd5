"""Deleting jobs that are older than they may become."""

from __future__ import annotations

from sqlalchemy import Float, func, select

from db import jobs
from db.models import Job, StepKind
from db.queue.transaction import JobGone, job_transaction
from tasks.maintenance.healing import logger
from tasks.runtime import Runtime
from tasks.transaction import announce


def delete_expired_jobs(runtime: Runtime) -> None:
    """Delete the jobs whose time is over."""
    days = func.coalesce(Job.options["retain_days"].astext.cast(Float), runtime.settings.retain_days)
    over = func.clock_timestamp() > Job.completed_at + func.make_interval(0, 0, 0, 0, 0, 0, days * 86400)
    with runtime.sessions() as session:
        late = session.scalars(select(Job.id).where(Job.deleted_at.is_(None), jobs.IS_TRANSCRIPTION, over)).all()
    for job_id in late:
        try:
            with job_transaction(runtime.sessions, job_id) as transaction:
                transaction.job.deleted_at = func.now()
                transaction.enqueue(StepKind.PURGE)
        except JobGone:
            continue
        logger.info("job %s is past its time and deleted", job_id)
        announce(runtime, transaction)
