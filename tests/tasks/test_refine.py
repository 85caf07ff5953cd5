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
from tests.tasks.pipeline import MakeRuntime, claim_one, failing, job_of, recording, submit, work_off


def test_only_a_language_that_somebody_named_is_certain(make_runtime: MakeRuntime) -> None:
    asked: list[tuple[str | None, str | None]] = []

    def hear(utterance: Utterance) -> str:
        asked.append((utterance.language, utterance.expected))
        return "we met on monday"

    runtime = make_runtime(hear, hear)
    submit(runtime, recording("jfk.flac"), language="en", options={"language": "en"})
    work_off(runtime)
    submit(runtime, recording("jfk.flac"), language="en")  # as ingest finds it
    work_off(runtime)
    assert asked == [("en", "en")] * 2 + [(None, "en")] * 2


def test_a_dead_refiner_degrades_the_job(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(refine=failing(10_000, RuntimeError("no GPU")))
    job_id = submit(runtime, recording())
    work_off(runtime)
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
    work_off(runtime)
    assert runtime.refine_engine.batches == batches
    job = job_of(runtime, job_id)
    assert (job.status, job.degraded) == (JobStatus.COMPLETED, False)


def test_chunks_of_different_jobs_share_a_batch(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(refine_batch=8)
    for _ in range(3):
        submit(runtime, recording())
    work_off(runtime, [ingest.handler, draft.handler])
    run(refine.handler, runtime)
    assert runtime.refine_engine.batches == [3], "the first chunk of each: the second waits for its text"


def test_a_chunk_is_refined_with_the_text_before_it(make_runtime: MakeRuntime) -> None:
    heard: list[tuple[str, ...]] = []

    def refined(utterance: Utterance) -> str:
        heard.append(tuple(phrase.text for phrase in utterance.history))
        return f"this is part {len(heard)}"

    runtime = make_runtime(refine=refined)
    submit(runtime, recording())
    work_off(runtime)
    assert heard == [(), ("this is part 1",)]


def test_looping_text_is_no_ground_for_the_next_chunk(make_runtime: MakeRuntime) -> None:
    heard: list[int] = []

    def refined(utterance: Utterance) -> str:
        heard.append(len(utterance.history))
        return "and then " * 40

    runtime = make_runtime(refine=refined)
    submit(runtime, recording())
    work_off(runtime)
    assert heard == [0, 0]


def test_every_lane_begins_at_once(make_runtime: MakeRuntime, settings: Settings) -> None:
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


def test_a_neighbour_refined_by_an_older_version_does_not_keep_a_chunk_waiting(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = make_job(runtime.sessions)
    add_chunks(runtime.sessions, job_id, 3)
    with job_transaction(runtime.sessions, job_id) as tx:
        for chunk in range(3):
            flow.finish_draft(tx, chunk, 0.9)
        tx.enqueue(StepKind.ALIGN, 0)  # and nothing is let go
    claim_one(runtime, StepKind.REFINE)
    healing.heal(runtime)
    claimed = claim_steps(runtime.sessions, StepKind.REFINE, 9, "w", runtime.settings)
    assert [claim.chunk for claim in claimed] == [1]


def test_chunks_that_wait_too_long_keep_their_drafts(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    patient, hasty = (submit(runtime, recording(), options=options) for options in ({}, {"degrade_after": 0.0}))
    work_off(runtime, (ingest.handler, draft.handler))
    claimed = claim_steps(runtime.sessions, StepKind.REFINE, 1, "w", runtime.settings)
    healing.heal(runtime)
    states = {s.chunk: s.state for s in steps_of(runtime.sessions, hasty, StepKind.REFINE)}
    mine = [claim.chunk for claim in claimed if claim.job_id == hasty]
    # the second chunk waits for what becomes of the first, if a worker has it
    assert states == ({0: "leased", 1: "ready"} if mine else {0: "skipped", 1: "skipped"})
    assert {s.state for s in steps_of(runtime.sessions, patient, StepKind.REFINE)} <= {
        StepState.READY, StepState.LEASED,
    }  # fmt: skip
    for claim in claimed:
        commit_or_fail(refine.handler, runtime, claim, Transient("the worker gave it back"))
    healing.heal(runtime)
    work_off(runtime)
    done = job_of(runtime, hasty)
    assert (done.status, done.degraded) == (JobStatus.COMPLETED, True)
    stored = json.loads(runtime.storage.get(f"{done.transcript_prefix}transcript.json"))
    assert {segment["source"] for segment in stored["segments"]} == {"draft"}
    assert job_of(runtime, patient).degraded is False
