"""Transactions that commit the work of a claim, and what follows them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from db.queue.claims import Claim
from db.queue.transaction import JobGone, JobTransaction, held_transaction, job_transaction
from db.telemetry.jobs import count_events
from tasks.errors import LeaseLost
from tasks.queue import send_hints
from tasks.runtime import Runtime

T = TypeVar("T")


@contextmanager
def fenced(runtime: Runtime, claim: Claim) -> Iterator[JobTransaction]:
    """A transaction on the job of the claim. Raises LeaseLost if it no longer holds its step."""
    with held_transaction(runtime.sessions, [claim]) as (_, held):
        if claim not in held:
            raise LeaseLost(f"{claim.kind} step {claim.id} is no longer ours")
        yield held[claim]


def change_job(runtime: Runtime, job_id: uuid.UUID, change: Callable[[JobTransaction], T]) -> T | None:
    """Change a job under its lock, and announce it; what ``change`` returns. None for a job that is gone."""
    try:
        with job_transaction(runtime.sessions, job_id) as transaction:
            result = change(transaction)
    except JobGone:
        return None
    announce(runtime, transaction)
    return result


def announce(runtime: Runtime, *transactions: JobTransaction) -> None:
    """After the commit: publish the events to subscribers, then send hints to workers."""
    for transaction in transactions:
        count_events(transaction)
    runtime.bus.publish(event for transaction in transactions for event in transaction.events)
    send_hints(kind for transaction in transactions for kind in transaction.ready)
