"""Transcripts that were finished before semantic search was wanted, or could not be read then, are read later."""

from __future__ import annotations

from db.models import StepKind
from db.queue import retry
from db.queue.transaction import JobTransaction
from db.search import meanings
from tasks.maintenance.failures import logging_failures
from tasks.runtime import Runtime
from tasks.transaction import change_job

AT_ONCE = 5000
"""Jobs in each round of upkeep."""


def read_more(runtime: Runtime) -> None:
    """Have a share of them read."""
    if not runtime.settings.semantic_search:
        return
    with runtime.sessions() as session:
        found = meanings.jobs_to_read(session, AT_ONCE) if meanings.are_kept(session) else ()
    for job_id in found:
        with logging_failures(f"have job {job_id} read"):
            change_job(runtime, job_id, _read)


def _read(tx: JobTransaction) -> None:
    if tx.job.deleted_at is None:
        retry.revive_step(tx, StepKind.INDEX)
        # unless it is there
        tx.enqueue(StepKind.INDEX)
