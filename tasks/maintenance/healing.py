"""Healing: expired leases, missing hints and overdue refinements."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection

from redis.exceptions import RedisError

from db.erasure import withdrawal
from db.models import JobStatus, StepKind
from db.queue import backlog, retry
from db.queue.transaction import JobTransaction
from tasks import flow
from tasks.maintenance.failures import logging_failures
from tasks.queue import QUEUES, send_hints
from tasks.runtime import Runtime
from tasks.step import expire_lease
from tasks.transaction import change_job

logger = logging.getLogger(__name__)

MAX_HINTS = 64
"""Hints of one kind that a round of healing sends at most."""


def heal(runtime: Runtime) -> None:
    """End the claims of silent workers, and send hints for what is ready and has too few."""
    with runtime.sessions() as session:
        stalled = backlog.stalled_claims(session, runtime.settings)
        outage = bool(stalled) and backlog.lapsed_together(session)
    for claim in stalled:
        with logging_failures(f"expire the lease of {claim.kind} step {claim.id}"):
            expire_lease(runtime, claim, outage=outage)
    with runtime.sessions.begin() as session:
        backlog.release_blocked(session)
    skip_overdue_refinements(runtime)
    list_withdrawn(runtime, JobStatus.COMPLETED)
    with runtime.sessions() as session:
        claimable = {kind: backlog.count_claimable(session, kind, MAX_HINTS) for kind in QUEUES}
    try:
        for queue in sorted(set(QUEUES.values())):
            kinds = [kind for kind, its_queue in QUEUES.items() if its_queue == queue and claimable[kind]]
            # hints in the queue may be of any of its kinds; superfluous ones just find nothing to claim
            if kinds and runtime.bus.count_hints(queue) < sum(claimable[kind] for kind in kinds):
                send_hints(kind for kind in kinds for _ in range(claimable[kind]))
    except RedisError as error:
        logger.warning("could not send hints: %s", error)


def list_withdrawn(runtime: Runtime, *states: JobStatus) -> None:
    """Have exports in these states written anew whose lists still name clips that are erased."""
    with runtime.sessions() as session:
        outdated = withdrawal.exports_to_list(session, *states)
    for export_id in outdated:
        with logging_failures(f"write the lists of export {export_id} anew"):
            change_job(runtime, export_id, _list_anew)


def _list_anew(tx: JobTransaction) -> None:
    if tx.job.status.finished and tx.job.deleted_at is None:
        retry.repeat_step(tx, StepKind.EXPORT)


def skip_overdue_refinements(runtime: Runtime) -> None:
    """Skip the refinement of chunks that have waited longer than their job allows: their drafts are used."""
    failed: set[uuid.UUID] = set()
    # a thousand at a time
    while overdue := _overdue_refinements(runtime, failed):
        for job_id, chunks in overdue.items():
            # a job that cannot be changed stays overdue: this round does not come back to it
            failed.add(job_id)
            with logging_failures(f"skip the refinement of job {job_id}"):
                _skip_refinements(runtime, job_id, chunks)
                failed.remove(job_id)


def _skip_refinements(runtime: Runtime, job_id: uuid.UUID, chunks: list[int]) -> None:
    def skip(tx: JobTransaction) -> bool:
        for chunk in backlog.skip_steps(tx.session, job_id, StepKind.REFINE, chunks):
            flow.give_up_refinement(tx, chunk)
        return True

    if change_job(runtime, job_id, skip):
        logger.warning("job %s: chunks %s waited too long for refinement; their drafts are used", job_id, chunks)


def _overdue_refinements(runtime: Runtime, excluded: Collection[uuid.UUID]) -> dict[uuid.UUID, list[int]]:
    with runtime.sessions() as session:
        return backlog.overdue_refinements(session, runtime.settings.degrade_after, excluded)
