"""Running steps: claim, work, commit, announce; and what the failure of a step means."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import count

from db.logs import describe
from db.models import Json
from db.queue import leases
from db.queue.claims import Claim, claim_steps
from db.queue.transaction import JobTransaction, held_transaction
from speech.engines import device_lost
from tasks import flow
from tasks.errors import (
    INFRASTRUCTURE,
    AtNoCost,
    Awaited,
    Broken,
    LeaseLost,
    Permanent,
    StepError,
    Superseded,
    Transient,
    Unserved,
)
from tasks.handler import Handler, Output, Work
from tasks.lease import Lease
from tasks.observed import Attempt, Ending, Outcome, ending, expired, observed, tell
from tasks.runtime import Runtime
from tasks.transaction import announce, fenced

logger = logging.getLogger(__name__)

Result = tuple[Attempt, Output | Exception]

MAX_COMMIT_PAUSE_SECONDS = 4.0
"""Longest pause between two attempts to commit."""


def run(handler: Handler, runtime: Runtime) -> Sequence[Claim]:
    """Claim ready steps of the kind, and run each to its end. Returns what was claimed."""
    limit = min(handler.batch(runtime), runtime.max_batch_size or sys.maxsize)

    def claim(retries: bool) -> list[Claim]:
        return claim_steps(
            runtime.sessions, handler.kind, limit, runtime.worker, runtime.settings, retries=retries
        )

    claims = runtime.claims.acquire(claim)
    if not claims:
        return ()
    try:
        with Lease(runtime, claims, handler.deadline) as lease, observed(claims, limit) as attempts:
            try:
                outputs = handler.work(claims, Work(runtime, lease))
            except Exception as error:  # noqa: BLE001  (handled by `commit_or_fail`)
                outputs = [error] * len(claims)
            commit_all(handler, runtime, list(zip(attempts, outputs, strict=True)))
    finally:
        runtime.claims.release(claims)
    return claims


def commit_all(handler: Handler, runtime: Runtime, results: Sequence[Result]) -> None:
    """Commit a batch, in one transaction if that goes well, and the rest of it one by one. Does not raise."""
    outputs = {attempt.claim: output for attempt, output in results if not isinstance(output, Exception)}
    notes: Mapping[Claim, Json] = {}
    if len(outputs) > 1:
        try:
            notes = _commit(handler, runtime, outputs)
        except Exception as error:  # noqa: BLE001  (whose fault it is turns out one by one)
            logger.info("committing one by one: %s", _describe_error(error))
    for attempt, output in results:
        claim = attempt.claim
        with ending(attempt):
            if claim in notes:
                end = Ending(Outcome.DONE, audio=notes[claim].get("audio"))
            else:
                end = commit_or_fail(handler, runtime, claim, output)
            tell(attempt, end)


def commit_or_fail(handler: Handler, runtime: Runtime, claim: Claim, output: Output | Exception) -> Ending:
    """Commit an output, or handle the failure of its step. Does not raise."""
    end = Ending()
    try:
        if isinstance(output, Exception):
            raise output
        notes = _commit(handler, runtime, {claim: output})
        if claim not in notes:
            raise LeaseLost(f"{claim.kind} step {claim.id} is no longer ours")
        end.outcome, end.audio = Outcome.DONE, notes[claim].get("audio")
    except LeaseLost as error:
        end.outcome = Outcome.LOST
        logger.info("discarded: %s", error)
        if not isinstance(output, Exception):
            _discard(handler, runtime, claim, output)
    except Exception as error:  # noqa: BLE001  (classified and logged in `fail`)
        end.error = type(error).__name__
        try:
            end.outcome = fail(runtime, claim, error)
            if isinstance(error, Superseded):
                handler.discard(runtime, output)
        except LeaseLost as lost:
            end.outcome = Outcome.LOST
            logger.info("discarded: %s", lost)
        except INFRASTRUCTURE as outage:
            # the lease runs out and healing tries the step again
            logger.warning("could not end %s step %d: %s", claim.kind, claim.id, outage)
    return end


def _discard(handler: Handler, runtime: Runtime, claim: Claim, output: Output) -> None:
    try:
        with runtime.sessions() as session:
            if leases.is_done(session, claim):
                return
        handler.discard(runtime, output)
    except INFRASTRUCTURE as error:
        logger.warning("left behind for the sweep: %s", error)


def _commit(handler: Handler, runtime: Runtime, outputs: Mapping[Claim, Output]) -> Mapping[Claim, Json]:
    """Commit and announce. One alone is tried again while Postgres is down, as it is too expensive to discard.

    Returns the results of the steps that are done: not of those whose lease is lost, nor, of several, of those
    whose job somebody else has locked at this moment.

    If a commit succeeds and its confirmation gets lost, the retry finds the lease lost.
    """
    give_up_at = time.monotonic() + runtime.settings.lease_seconds
    for attempt in count(1):
        try:
            with held_transaction(runtime.sessions, list(outputs)) as (session, held):
                notes = {
                    claim: dict(handler.commit(transaction, claim, outputs[claim]) or {})
                    for claim, transaction in held.items()
                }
                if notes:
                    leases.finish(session, notes)
            break
        except INFRASTRUCTURE as error:
            pause = leases.backoff(attempt, runtime.settings, longest=MAX_COMMIT_PAUSE_SECONDS)
            # whether it is only about one of several turns out one by one
            if len(outputs) > 1 or time.monotonic() + pause > give_up_at:
                raise
            (claim,) = outputs
            logger.warning("could not commit %s step %d, trying again: %s", claim.kind, claim.id, error)
            time.sleep(pause)
    announce(runtime, *{transaction.job.id: transaction for transaction in held.values()}.values())
    for claim in notes:
        handler.tidy(runtime, outputs[claim])
    return notes


def fail(runtime: Runtime, claim: Claim, error: Exception) -> Outcome:
    """Retry the step after an outage or a failed attempt. Without attempts left, degrade or fail the job."""
    if isinstance(error, Awaited):
        # chunk after chunk, every few seconds; the outage itself is logged where it is noticed
        logger.debug("%s step %d waits: %s", claim.kind, claim.id, error)
    elif isinstance(error, (StepError, *INFRASTRUCTURE)):
        logger.warning("%s step %d, attempt %d: %s", claim.kind, claim.id, claim.attempt, error)
    else:
        logger.error("%s step %d, attempt %d", claim.kind, claim.id, claim.attempt, exc_info=error)
    with fenced(runtime, claim) as transaction:
        if isinstance(error, AtNoCost):
            outcome = Outcome.HANDED_BACK
            leases.requeue(transaction.session, claim, str(error), delay=error.delay)
            if not error.delay:
                transaction.ready.append(claim.kind)
        elif isinstance(error, INFRASTRUCTURE) and claim.outages < runtime.settings.outage_attempts:
            outcome = Outcome.OUTAGE
            pause = leases.backoff(claim.outages + 1, runtime.settings, longest=leases.MAX_OUTAGE_PAUSE_SECONDS)
            leases.requeue(transaction.session, claim, _describe_error(error), delay=pause, outage=True)
        else:
            outcome = _spend_attempt(runtime, transaction, claim, error)
    announce(runtime, transaction)
    if device_lost(error):
        runtime.shut_down(f"the GPU of this process is of no more use: {error}")
    return outcome


def _describe_error(error: Exception) -> str:
    """For ``steps.error``. Messages of our own and of servers are kept; those of bugs may quote a transcript."""
    known = isinstance(error, (StepError, *INFRASTRUCTURE))
    return f"{type(error).__name__}: {error}" if known else describe(error)


def _spend_attempt(runtime: Runtime, transaction: JobTransaction, claim: Claim, error: Exception) -> Outcome:
    message = _describe_error(error)
    if isinstance(error, Permanent | Unserved) or claim.attempt >= runtime.settings.max_attempts:
        leases.mark_dead(transaction.session, claim, message)
        flow.handle_dead_step(transaction, claim, error)
        refused = isinstance(error, Permanent) and not isinstance(error, Broken)
        return Outcome.REFUSED if refused else Outcome.DEAD
    delay = leases.backoff(claim.attempt, runtime.settings)
    leases.schedule_retry(transaction.session, claim, message, delay)
    return Outcome.RETRIED


class WorkerLost(Transient):
    """The lease ran out: its worker has died or hangs."""


def expire_lease(runtime: Runtime, claim: Claim, *, outage: bool = False) -> None:
    """Spend the attempt of a step whose lease ran out. Does nothing if its worker renewed it meanwhile.

    ``outage``: most workers lost their leases together. That costs no attempt, but a step has no more of these
    than attempts.
    """
    try:
        with fenced(runtime, claim) as transaction:
            if not leases.is_expired(transaction.session, claim):
                return
            logger.warning("lease of %s step %d (attempt %d) ran out", claim.kind, claim.id, claim.attempt)
            error = WorkerLost(f"the worker of attempt {claim.attempt} went silent")
            if outage and claim.outages < runtime.settings.max_attempts:
                outcome = Outcome.OUTAGE
                leases.requeue(transaction.session, claim, _describe_error(error), outage=True)
                transaction.ready.append(claim.kind)
            else:
                outcome = _spend_attempt(runtime, transaction, claim, error)
    except LeaseLost:
        return
    expired(claim, outcome)
    announce(runtime, transaction)
