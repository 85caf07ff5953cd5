"""Refinement on real servers with engines of our own: policies, prompts, batches, degradation."""

from __future__ import annotations

import json

import pytest

from db.models import JobStatus, StepKind, StepState
from db.queue.claims import claim_steps
from db.queue.transaction import job_transaction
from db.settings import Settings
from speech.engines import Utterance
from tasks import flow
from tasks.errors import Transient
from tasks.maintenance import healing
from tasks.step import commit_or_fail, run
from tasks.steps import draft, ingest, refine
from tests.jobs import add_chunks, make_job, steps_of
from tests.tasks.pipeline import MakeRuntime, claim_one, failing, job_of, recording, run_until_done, submit


def test_only_a_language_named_by_the_user_is_certain(make_runtime: MakeRuntime) -> None:
    asked: list[tuple[str | None, str | None]] = []

    def transcribe(utterance: Utterance) -> str:
        asked.append((utterance.language, utterance.expected))
        return "we met on monday"

    runtime = make_runtime(transcribe, transcribe)
    submit(runtime, recording("jfk.flac"), language="en", options={"language": "en"})
    run_until_done(runtime)
    submit(runtime, recording("jfk.flac"), language="en")  # as ingest finds it
    run_until_done(runtime)
    assert asked == [("en", "en")] * 2 + [(None, "en")] * 2


def test_a_failing_refiner_degrades_the_job(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(refine=failing(10_000, RuntimeError("no GPU")))
    job_id = submit(runtime, recording())
    run_until_done(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.degraded) == (JobStatus.COMPLETED, True)
    stored = json.loads(runtime.storage.get(f"{job.transcript_prefix}transcript.json"))
    assert [(s["text"], s["source"]) for s in stored["segments"]] == [("we met on monday", "draft")] * 2
    results = [s.result for s in steps_of(runtime.sessions, job_id, StepKind.ALIGN)]
    assert results == [{"source": "draft", "reasons": ["refined_missing"]}] * 2
    assert {s.state for s in steps_of(runtime.sessions, job_id, StepKind.REFINE)} == {StepState.DEAD}


@pytest.mark.parametrize(("policy", "batches"), [("always", [1, 1]), ("never", []), ("uncertain", [])])
def test_the_refine_policy(make_runtime: MakeRuntime, policy: str, batches: list[int]) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording(), options={"refine": policy})
    run_until_done(runtime)
    assert runtime.refine_engine.batches == batches
    job = job_of(runtime, job_id)
    assert (job.status, job.degraded) == (JobStatus.COMPLETED, False)


def test_chunks_of_different_jobs_share_a_batch(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(refine_batch=8)
    for _ in range(3):
        submit(runtime, recording())
    run_until_done(runtime, [ingest.handler, draft.handler])
    run(refine.handler, runtime)
    assert runtime.refine_engine.batches == [3], "the first chunk of each: the second waits for its text"


def test_a_chunk_is_refined_with_the_previous_text(make_runtime: MakeRuntime) -> None:
    prompts: list[tuple[str, ...]] = []

    def refined(utterance: Utterance) -> str:
        prompts.append(tuple(phrase.text for phrase in utterance.history))
        return f"this is part {len(prompts)}"

    runtime = make_runtime(refine=refined)
    submit(runtime, recording())
    run_until_done(runtime)
    assert prompts == [(), ("this is part 1",)]


def test_looping_text_is_not_used_as_a_prompt(make_runtime: MakeRuntime) -> None:
    prompts: list[int] = []

    def refined(utterance: Utterance) -> str:
        prompts.append(len(utterance.history))
        return "and then " * 40

    runtime = make_runtime(refine=refined)
    submit(runtime, recording())
    run_until_done(runtime)
    assert prompts == [0, 0]


def test_the_first_chunks_of_all_lanes_are_claimable(make_runtime: MakeRuntime, settings: Settings) -> None:
    runtime = make_runtime()
    lane = settings.refine_lane
    job_id = make_job(runtime.sessions)
    add_chunks(runtime.sessions, job_id, 2 * lane + 2)
    with job_transaction(runtime.sessions, job_id) as tx:
        for chunk in range(2 * lane + 2):
            flow.finish_draft(tx, chunk, 0.9)
    claimed = claim_steps(runtime.sessions, StepKind.REFINE, 99, "w", runtime.settings)
    assert [claim.chunk for claim in claimed] == [0, lane, 2 * lane]
    with job_transaction(runtime.sessions, job_id) as tx:
        flow.finish_refine(tx, lane)
    claimed = claim_steps(runtime.sessions, StepKind.REFINE, 99, "w", runtime.settings)
    assert [claim.chunk for claim in claimed] == [lane + 1]


def test_healing_unblocks_chunks_after_an_older_version(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = make_job(runtime.sessions)
    add_chunks(runtime.sessions, job_id, 3)
    with job_transaction(runtime.sessions, job_id) as tx:
        for chunk in range(3):
            flow.finish_draft(tx, chunk, 0.9)
        tx.enqueue(StepKind.ALIGN, 0)  # but the next chunk stays blocked
    claim_one(runtime, StepKind.REFINE)
    healing.heal(runtime)
    claimed = claim_steps(runtime.sessions, StepKind.REFINE, 9, "w", runtime.settings)
    assert [claim.chunk for claim in claimed] == [1]


def test_overdue_refinements_are_skipped(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    unlimited, limited = (
        submit(runtime, recording(), options=options) for options in ({}, {"degrade_after": 0.0})
    )
    run_until_done(runtime, (ingest.handler, draft.handler))
    claimed = claim_steps(runtime.sessions, StepKind.REFINE, 1, "w", runtime.settings)
    healing.heal(runtime)
    states = {s.chunk: s.state for s in steps_of(runtime.sessions, limited, StepKind.REFINE)}
    mine = [claim.chunk for claim in claimed if claim.job_id == limited]
    # the second chunk waits for what becomes of the first, if a worker has it
    assert states == ({0: "leased", 1: "ready"} if mine else {0: "skipped", 1: "skipped"})
    assert {s.state for s in steps_of(runtime.sessions, unlimited, StepKind.REFINE)} <= {
        StepState.READY, StepState.LEASED,
    }  # fmt: skip
    for claim in claimed:
        commit_or_fail(refine.handler, runtime, claim, Transient("the worker gave it back"))
    healing.heal(runtime)
    run_until_done(runtime)
    done = job_of(runtime, limited)
    assert (done.status, done.degraded) == (JobStatus.COMPLETED, True)
    stored = json.loads(runtime.storage.get(f"{done.transcript_prefix}transcript.json"))
    assert {segment["source"] for segment in stored["segments"]} == {"draft"}
    assert job_of(runtime, unlimited).degraded is False
