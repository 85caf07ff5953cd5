"""Fencing and healing: workers that die, resume late, or lose the confirmation of a commit."""

from __future__ import annotations

import time

from db.models import JobStatus, StepKind, StepState
from tasks.handler import Work
from tasks.maintenance import healing
from tasks.step import commit_or_fail, expire_lease
from tasks.steps import draft, finalize, ingest
from tests.jobs import steps_of
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
