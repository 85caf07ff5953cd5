"""Healing: expired leases, missing hints and overdue refinements."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection

from redis.exceptions import RedisError

from db import rounds
from db.erasure import withdrawal
from db.models import JobStatus, StepKind
from db.queue import backlog, lanes, retry
from db.queue.transaction import JobTransaction
from db.session import autocommit
from tasks import flow
from tasks.maintenance.failures import logging_failures
from tasks.queue import MOST_HINTS, QUEUES, send_hints
from tasks.runtime import Runtime
from tasks.step import expire_lease
from tasks.transaction import change_job

logger = logging.getLogger(__name__)

COMPARED_JOBS = 100
"""Jobs whose lanes a round of healing compares with their steps."""

ROUND = 0.8
"""Part of the time between two looks of a worker after which a round of healing is due: looks have jitter."""


def is_due(runtime: Runtime) -> bool:
    """Whether it is this worker that makes the next round of healing, for all."""
    return rounds.begin(runtime.sessions, rounds.HEALING, ROUND * runtime.settings.heal_seconds)


def heal(runtime: Runtime) -> None:
    """End the claims of silent workers, and send hints for what is ready and has too few.

    What runs out of time keeps nothing else from its turn.
    """
    with logging_failures("expire leases"):
        expire_leases(runtime)
    with logging_failures("release what older versions have wait"), runtime.sessions.begin() as session:
        backlog.release_blocked(session)
    with logging_failures("skip overdue refinements"):
        skip_overdue_refinements(runtime)
    with logging_failures("list what was withdrawn"):
        list_withdrawn(runtime, JobStatus.COMPLETED)
    with logging_failures("compare lanes with steps"):
        repair_lanes(runtime)
    with logging_failures("send hints"):
        ring(runtime)


def expire_leases(runtime: Runtime) -> None:
    """All that have run out, by some at a time."""
    outage: bool | None = None
    seen: set[int | None] = set()
    while True:
        with runtime.sessions() as session:
            found = backlog.stalled_claims(session, runtime.settings)
            if outage is None:
                # as it is before any of them ends
                outage = bool(found) and backlog.lapsed_together(session)
        stalled = [claim for claim in found if claim.fence not in seen]
        if not stalled:
            return
        for claim in stalled:
            seen.add(claim.fence)
            with logging_failures(f"expire the lease of {claim.kind} step {claim.id}"):
                expire_lease(runtime, claim, outage=outage)


def repair_lanes(runtime: Runtime) -> None:
    """Look at the lanes of some jobs, of others in each round."""
    with runtime.sessions.begin() as session:
        jobs = lanes.some_jobs(session, COMPARED_JOBS)
        suspects = lanes.wrong(session, jobs)
    for job_id in suspects:
        with logging_failures(f"repair the lanes of job {job_id}"), runtime.sessions.begin() as session:
            if lanes.repair(session, job_id):
                logger.error("the lanes of job %s did not count its steps: made anew", job_id)


def ring(runtime: Runtime) -> None:
    """Send hints for what is ready and has too few."""
    with autocommit(runtime.sessions) as session:
        claimable = backlog.count_claimable(session, dict.fromkeys(QUEUES, MOST_HINTS))
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
