"""Refinement on real servers with engines of our own: policies, prompts, batches, degradation."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import update

from db.models import JobStatus, Step, StepKind, StepState
from db.queue.claims import claim_steps
from speech.engines import EngineUnavailable, Utterance
from tasks import flow
from tasks.engines import Engines, Wanted
from tasks.errors import Transient
from tasks.maintenance import healing
from tasks.step import commit_or_fail, run
from tasks.steps import draft, ingest, refine
from tests.jobs import add_chunks, make_job, steps_of
from tests.tasks.pipeline import MakeRuntime, failing, job_of, recording, run_until_done, submit


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


def test_only_engines_that_can_are_asked_to_translate(make_runtime: MakeRuntime) -> None:
    """Where none can, the job says so, instead of a transcript in the language that was spoken."""
    asked: list[bool] = []

    def transcribe(utterance: Utterance) -> str:
        asked.append(utterance.translate)
        return "we met on monday"

    runtime = make_runtime(transcribe, transcribe)
    options = {"translate": True, "refine": "only"}
    translated = submit(runtime, recording("jfk.flac"), options=options)
    run_until_done(runtime)
    assert (job_of(runtime, translated).status, asked) == (JobStatus.COMPLETED, [True])
    english_only = Engines(
        runtime.settings.model_copy(update={"refine_model": "tiny.en"}), lambda: pytest.fail("no version")
    )
    with pytest.raises(EngineUnavailable, match="does not translate"):
        english_only.refiner(Wanted(translate=True))


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


@pytest.mark.parametrize(("policy", "batches"), [("always", [2]), ("never", []), ("uncertain", [])])
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
    assert runtime.refine_engine.batches == [6]


def test_healing_releases_what_an_older_version_blocked(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = make_job(runtime.sessions)
    add_chunks(runtime.sessions, job_id, 2, StepKind.REFINE)
    with runtime.sessions.begin() as session:
        session.execute(update(Step).where(Step.job_id == job_id, Step.chunk == 1).values(run_after=None))
    claimed = claim_steps(runtime.sessions, StepKind.REFINE, 9, "w", runtime.settings)
    assert [claim.chunk for claim in claimed] == [0]
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
    assert states == {0: "leased" if mine else "skipped", 1: "skipped"}
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


def test_only_refined(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording(), options={"refine": "only"})
    run_until_done(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.degraded, job.percent, job.drafted) == (JobStatus.COMPLETED, False, 100, 0)
    assert set(job.models) == {"refine"}
    assert runtime.draft_engine.batches == []


@pytest.mark.parametrize("works", [False, True])
def test_what_is_only_refined_and_an_older_version_drafts_first(
    make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    def refined(utterance: Utterance) -> str:
        if not works:
            raise RuntimeError("not today")
        return "we met on Monday"

    runtime = make_runtime(refine=refined)
    job_id = submit(runtime, recording(), options={"refine": "only"})
    with monkeypatch.context() as ingesting:
        ingesting.setattr(flow, "refines_first", lambda _: False)
        assert run(ingest.handler, runtime)
    run_until_done(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.degraded, job.percent, job.refined) == (
        JobStatus.COMPLETED,
        not works,
        100,
        job.chunks,
    )


def test_what_is_only_refined_is_drafted_where_that_fails(make_runtime: MakeRuntime) -> None:
    def broken(utterance: Utterance) -> str:
        raise RuntimeError("not today")

    runtime = make_runtime(refine=broken)
    job_id = submit(runtime, recording(), options={"refine": "only"})
    run_until_done(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.degraded, job.percent) == (JobStatus.COMPLETED, True, 100)
    assert set(job.models) == {"draft"}


def test_what_is_only_refined_is_drafted_where_that_takes_too_long(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording(), options={"refine": "only", "degrade_after": 0})
    assert run(ingest.handler, runtime)
    healing.skip_overdue_refinements(runtime)
    run_until_done(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.degraded) == (JobStatus.COMPLETED, True)
    assert set(job.models) == {"draft"}
