"""Transactions that commit the work of a claim, and what follows them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from db.queue import leases
from db.queue.claims import Claim
from db.queue.transaction import JobGone, JobTransaction, job_transaction
from db.telemetry.jobs import count_events
from tasks.errors import LeaseLost
from tasks.queue import send_hints
from tasks.runtime import Runtime

T = TypeVar("T")


@contextmanager
def fenced(runtime: Runtime, claim: Claim) -> Iterator[JobTransaction]:
    """A transaction on the claim's job. Raises LeaseLost if the claim no longer holds the step."""
    try:
        with job_transaction(runtime.sessions, claim.job_id) as transaction:
            if not leases.is_held(transaction.session, claim):
                raise LeaseLost(f"{claim.kind} step {claim.id} is no longer ours")
            yield transaction
    except JobGone as error:
        raise LeaseLost(f"job {claim.job_id} was deleted") from error


def change_job(runtime: Runtime, job_id: uuid.UUID, change: Callable[[JobTransaction], T]) -> T | None:
    """Change a job under its lock, and announce it; what ``change`` returns. None for a job that is gone."""
    try:
        with job_transaction(runtime.sessions, job_id) as transaction:
            result = change(transaction)
    except JobGone:
        return None
    announce(runtime, transaction)
    return result


def announce(runtime: Runtime, transaction: JobTransaction) -> None:
    """After the commit: publish the events to subscribers, then send hints to workers."""
    count_events(transaction)
    runtime.bus.publish(transaction.events)
    send_hints(transaction.ready)
