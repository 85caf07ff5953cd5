"""Fencing and healing: workers that die, resume late, or lose the confirmation of a commit."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import partial

import pytest
from sqlalchemy import select

from db.models import EventType, JobStatus, StepKind, StepState, StoredSegment
from db.queue import backlog, claims
from db.queue.transaction import job_transaction
from tasks.handler import Work
from tasks.lease import Lease
from tasks.maintenance import healing
from tasks.step import commit_or_fail, expire_lease
from tasks.steps import draft, finalize, ingest
from tests.jobs import steps_of
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import (
    HANDLERS,
    MakeRuntime,
    claim_one,
    event_types,
    expire_leases,
    job_of,
    recording,
    run_until_done,
    submit,
)
from tests.waiting import until


def test_a_zombie_cannot_overwrite_its_successor(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording("jfk.flac"))
    run_until_done(runtime, [ingest.handler])
    zombie = claim_one(runtime, StepKind.DRAFT)
    (late,) = draft.handler.work([zombie], Work(runtime, None))  # type: ignore[arg-type]
    expire_leases(runtime.sessions)
    healing.heal(runtime)
    time.sleep(0.01)  # past the backoff of a millisecond
    run_until_done(runtime)
    before = event_types(runtime, job_id)
    commit_or_fail(draft.handler, runtime, zombie, late)
    assert event_types(runtime, job_id) == before
    (step,) = steps_of(runtime.sessions, job_id, StepKind.DRAFT)
    assert (step.state, step.attempt) == (StepState.DONE, 2)


def test_healing_ignores_a_renewed_lease(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording("jfk.flac"))
    claimed = claim_one(runtime, StepKind.INGEST)
    expire_lease(runtime, claimed)  # as if seen expired just before its worker renewed it
    (step,) = steps_of(runtime.sessions, job_id, StepKind.INGEST)
    assert (step.state, step.fence) == (StepState.LEASED, claimed.fence)


def test_a_thread_that_cannot_start_ends_no_renewals(
    make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime()
    submit(runtime, recording("jfk.flac"))
    lease = Lease(runtime, [claim_one(runtime, StepKind.INGEST)], deadline=60)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError), lease:
            pass
    expire_leases(runtime.sessions)
    with lease:
        until(lambda: not _stalled(runtime))


def _stalled(runtime: FakeRuntime) -> Sequence[claims.Claim]:
    with runtime.sessions() as session:
        return backlog.stalled_claims(session, runtime.settings)


def test_a_step_that_kills_its_workers_becomes_dead(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    poison = submit(runtime, recording("jfk.flac"))
    for _ in range(3):
        claim_one(runtime, StepKind.INGEST)  # the worker dies here
        expire_leases(runtime.sessions)
        healing.heal(runtime)
        time.sleep(0.02)
    job = job_of(runtime, poison)
    assert (job.status, job.error_code) == (JobStatus.FAILED, "step_failed")
    assert "3 times" in (job.error_message or "")
    fine = submit(runtime, recording("jfk.flac"))
    run_until_done(runtime)
    assert job_of(runtime, fine).status == JobStatus.COMPLETED


def test_the_output_of_an_unconfirmed_commit_is_kept(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    submit(runtime, recording("jfk.flac"))
    run_until_done(runtime, HANDLERS[:-1])
    claimed = claim_one(runtime, StepKind.FINALIZE)
    (written,) = finalize.handler.work([claimed], Work(runtime, None))  # type: ignore[arg-type]
    assert isinstance(written, finalize.FinalizeOutput)
    commit_or_fail(finalize.handler, runtime, claimed, written)
    commit_or_fail(finalize.handler, runtime, claimed, written)
    assert runtime.storage.get(f"{written.prefix}transcript.json")


def test_a_partition_costs_no_attempt_and_a_crash_does(make_runtime: MakeRuntime) -> None:
    """Leases of several workers that lapse together are nobody's fault; those of one worker are."""
    runtime, other = make_runtime(), make_runtime()
    other.worker = "elsewhere:1"
    first = submit(runtime, recording("jfk.flac"))
    second = submit(runtime, recording("jfk.flac"))
    assert _claims(runtime)
    assert _claims(other)
    expire_leases(runtime.sessions)
    healing.heal(runtime)
    for job_id in (first, second):
        (step,) = steps_of(runtime.sessions, job_id, StepKind.INGEST)
        assert (step.state, step.attempt, step.outages) == (StepState.READY, 0, 1)
    assert _claims(runtime)
    expire_leases(runtime.sessions)
    healing.heal(runtime)
    attempts = [steps_of(runtime.sessions, job_id, StepKind.INGEST)[0].attempt for job_id in (first, second)]
    assert sorted(attempts) == [0, 1]


def test_lapses_together_are_forgiven_as_often_as_there_are_attempts(make_runtime: MakeRuntime) -> None:
    """Two recordings that kill their workers at the same moment must not do so for ever."""
    runtime, other = make_runtime(), make_runtime()
    other.worker = "elsewhere:1"
    jobs = [submit(runtime, recording("jfk.flac")) for _ in range(2)]
    for _ in range(2 * runtime.settings.max_attempts):
        for worker in (runtime, other):
            until(partial(_claims, worker))
        expire_leases(runtime.sessions)
        healing.heal(runtime)
    assert {job_of(runtime, job_id).status for job_id in jobs} == {JobStatus.FAILED}
    for job_id in jobs:
        (step,) = steps_of(runtime.sessions, job_id, StepKind.INGEST)
        assert (step.attempt, step.outages) == (runtime.settings.max_attempts, runtime.settings.max_attempts)


def _claims(runtime: FakeRuntime) -> bool:
    """Whether a step was left to be claimed, now that its backoff is over."""
    return bool(claims.claim_steps(runtime.sessions, StepKind.INGEST, 1, runtime.worker, runtime.settings))


def test_a_correction_while_the_transcript_is_written_is_in_it(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording("jfk.flac"))
    run_until_done(runtime, HANDLERS[:-1])
    claimed = claim_one(runtime, StepKind.FINALIZE)
    (stale,) = finalize.handler.work([claimed], Work(runtime, None))  # type: ignore[arg-type]
    assert isinstance(stale, finalize.FinalizeOutput)
    with job_transaction(runtime.sessions, job_id) as tx:
        segment = tx.session.scalars(select(StoredSegment).where(StoredSegment.job_id == job_id)).first()
        assert segment is not None
        segment.text = "as Ada corrected it"
        tx.emit(EventType.SEGMENT_CORRECTED, {})
    commit_or_fail(finalize.handler, runtime, claimed, stale)
    assert job_of(runtime, job_id).status == JobStatus.PROCESSING
    assert not list(runtime.storage.list(stale.prefix))
    run_until_done(runtime)
    job = job_of(runtime, job_id)
    assert job.status == JobStatus.COMPLETED
    assert "as Ada corrected it" in runtime.storage.get(f"{job.transcript_prefix}transcript.txt").decode()
    (step,) = steps_of(runtime.sessions, job_id, StepKind.FINALIZE)
    assert step.attempt == 1
