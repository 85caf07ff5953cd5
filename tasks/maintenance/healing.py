"""Upkeep: purging deleted jobs, healing what crashed, sweeping what nobody refers to."""

from __future__ import annotations

import logging
import uuid

from redis.exceptions import RedisError

from db.models import StepKind
from db.queue import backlog
from db.queue.transaction import JobGone, job_transaction
from tasks import flow
from tasks.queue import QUEUES, send_hints
from tasks.runtime import Runtime
from tasks.step import expire_lease
from tasks.transaction import announce

logger = logging.getLogger(__name__)

HINTS = 64
"""Most hints of one kind that a round of healing sends."""


def heal(runtime: Runtime) -> None:
    """Settle steps whose worker went silent, and send hints again for ready steps that have too few hints."""
    with runtime.sessions() as session:
        gone = backlog.stalled_claims(session, runtime.settings)
    for claim in gone:
        expire_lease(runtime, claim)
    with runtime.sessions.begin() as session:
        backlog.unblock_orphans(session)
    degrade(runtime)
    with runtime.sessions() as session:
        waiting = {kind: backlog.count_claimable(session, kind, HINTS) for kind in StepKind}
    try:
        for queue in sorted(set(QUEUES.values())):
            kinds = [kind for kind in StepKind if QUEUES[kind] == queue and waiting[kind]]
            # hints in the queue may be for any of its kinds; a few too many only find nothing to claim
            if kinds and runtime.bus.count_hints(queue) < sum(waiting[kind] for kind in kinds):
                send_hints(kind for kind in kinds for _ in range(waiting[kind]))
    except RedisError as error:
        logger.warning("could not send hints: %s", error)


def degrade(runtime: Runtime) -> None:
    """Let drafts stand for chunks that have waited for refinement longer than their job allows."""
    # a chunk that is passed over lets the next one go, which may have waited as long
    while late := _overdue_refinements(runtime):
        for job_id, chunks in late.items():
            try:
                with job_transaction(runtime.sessions, job_id) as transaction:
                    for chunk in backlog.skip_steps(transaction.session, job_id, StepKind.REFINE, chunks):
                        transaction.job.degraded = True
                        flow.finish_refine(transaction, chunk, heard=False)
            except JobGone:
                continue
            logger.warning("job %s: chunks %s waited too long for refinement; their drafts stand", job_id, chunks)
            announce(runtime, transaction)


def _overdue_refinements(runtime: Runtime) -> dict[uuid.UUID, list[int]]:
    with runtime.sessions() as session:
        return backlog.overdue_refinements(session, runtime.settings.degrade_after)
