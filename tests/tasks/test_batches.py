"""Batches across jobs: bad chunks, memory that runs out, outages, steps that may have killed a worker."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from threading import Thread

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError

from db.models import JobStatus, Passage, StepKind, StepState
from db.queue.claims import Claim, claim_steps
from speech.engines import EngineInfo, Utterance, device_lost, out_of_memory
from speech.text.words import Hypothesis
from tasks.batching import FIRST, MEASURED, LearntBatch
from tasks.maintenance import healing
from tasks.step import run
from tasks.steps import align, draft, finalize, ingest, refine
from tests.jobs import steps_of
from tests.tasks.pipeline import MakeRuntime, expire_leases, job_of, recording, run_until_done, submit
from tests.waiting import until

OOM = "CUDA failed with error out of memory"


def test_one_bad_chunk_fails_alone(make_runtime: MakeRuntime) -> None:
    """Chunks of three jobs share a batch, and the engine fails on one of them."""

    def refined(utterance: Utterance) -> str:
        if "bad" in utterance.hotwords:
            raise ValueError("an engine's own bug")
        return "we met on Monday"

    runtime = make_runtime(refine=refined, refine_batch=8)
    good = [submit(runtime, recording("jfk.flac")) for _ in range(2)]
    bad = submit(runtime, recording("jfk.flac"), options={"hotwords": ["bad"]})
    run_until_done(runtime, [ingest.handler, draft.handler])
    assert len(run(refine.handler, runtime)) == 3
    assert runtime.refine_engine.batches[0] == 3
    for job_id in good:
        (step,) = steps_of(runtime.sessions, job_id, StepKind.REFINE)
        assert (step.state, step.attempt) == (StepState.DONE, 1)
    (step,) = steps_of(runtime.sessions, bad, StepKind.REFINE)
    assert (step.state, step.attempt) == (StepState.READY, 1)


def test_a_batch_is_committed_at_once_but_for_jobs_that_others_hold(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(draft_batch=3)
    ids = [submit(runtime, recording("jfk.flac")) for _ in range(3)]
    run_until_done(runtime, [ingest.handler])

    def ends() -> list[datetime | None]:
        return [steps_of(runtime.sessions, job_id, StepKind.DRAFT)[0].finished_at for job_id in ids]

    with runtime.sessions.begin() as other:
        other.execute(text("SELECT FROM jobs WHERE id = :id FOR UPDATE"), {"id": ids[0]})
        worker = Thread(target=run, args=(draft.handler, runtime))
        worker.start()
        until(lambda: all(ends()[1:]), "those of which nobody holds the job are committed")
        held, first, second = ends()
        assert held is None
        assert first == second, "in one transaction"
    worker.join()
    assert all(ends())
    with runtime.sessions() as session:
        assert set(session.scalars(select(Passage.job_id))) == set(ids)
    assert all(steps_of(runtime.sessions, job_id, StepKind.REFINE) for job_id in ids)


def test_out_of_memory_halves_the_batch_and_later_ones(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(refine_batch=8)
    original = runtime.refine_engine.transcribe

    def transcribe(utterances: Sequence[Utterance]) -> list[Hypothesis]:
        if len(utterances) > 2:
            raise RuntimeError(OOM)
        return original(utterances)

    runtime.refine_engine.transcribe = transcribe  # type: ignore[method-assign]
    ids = [submit(runtime, recording("jfk.flac")) for _ in range(8)]
    run_until_done(runtime, [ingest.handler, draft.handler])
    assert len(run(refine.handler, runtime)) == 8
    assert runtime.refine_engine.batches == [2, 2, 2, 2]
    assert runtime.max_batch_size == 2
    run_until_done(runtime, [align.handler, finalize.handler])
    assert {job_of(runtime, job_id).status for job_id in ids} == {JobStatus.COMPLETED}
    assert not any(job_of(runtime, job_id).degraded for job_id in ids)
    for _ in range(4):
        submit(runtime, recording("jfk.flac"))
    run_until_done(runtime, [ingest.handler, draft.handler])
    assert len(run(refine.handler, runtime)) == 2


def test_a_gpu_learns_from_the_batches_that_it_is_given(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    runtime.refine_engine.info = EngineInfo("fake", "large", "cuda", "float16")
    assert refine.handler.batch(runtime) == FIRST
    # four full batches of one chunk took an hour each
    slow = LearntBatch("large", lambda: None, size=1, _seen=[(1.0, 3600.0)] * MEASURED)
    runtime.learnt_batches["large", "cuda"] = slow
    submit(runtime, recording("jfk.flac"))
    run_until_done(runtime, [ingest.handler, draft.handler, refine.handler])
    assert refine.handler.batch(runtime) == 2


def test_a_lost_gpu_ends_the_process(make_runtime: MakeRuntime) -> None:
    def refined(utterance: Utterance) -> str:
        raise RuntimeError("cuDNN failed with status CUDNN_STATUS_EXECUTION_FAILED")

    runtime = make_runtime(refine=refined)
    reasons: list[str] = []
    runtime.shut_down = reasons.append
    job_id = submit(runtime, recording("jfk.flac"))
    run_until_done(runtime, [ingest.handler, draft.handler])
    run(refine.handler, runtime)
    assert "GPU" in reasons[0]
    assert steps_of(runtime.sessions, job_id, StepKind.REFINE)[0].state == StepState.READY


@pytest.mark.parametrize(
    ("message", "memory", "lost"),
    [
        (OOM, True, False),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED", True, False),
        ("[ONNXRuntimeError] BFCArena: Failed to allocate memory for requested buffer", True, False),
        ("CUDA error: an illegal memory access was encountered", False, True),
        ("cuBLAS failed with status CUBLAS_STATUS_EXECUTION_FAILED", False, True),
        ("Invalid input size", False, False),
    ],
)
def test_gpu_errors_are_classified(message: str, memory: bool, lost: bool) -> None:
    assert (out_of_memory(RuntimeError(message)), device_lost(RuntimeError(message))) == (memory, lost)


def test_an_outage_costs_no_attempt(make_runtime: MakeRuntime) -> None:
    outage = OperationalError("SELECT", {}, Exception("the server closed the connection"))
    is_down = True

    def drafted(utterance: Utterance) -> str:
        if is_down:
            raise outage
        return "we met on Monday"

    runtime = make_runtime(draft=drafted, max_attempts=2, outage_attempts=20)
    job_id = submit(runtime, recording("jfk.flac"))
    run_until_done(runtime, [ingest.handler])
    for _ in range(10):
        run(draft.handler, runtime)
        with runtime.sessions.begin() as session:
            session.execute(text("UPDATE steps SET run_after = now()"))
    (step,) = steps_of(runtime.sessions, job_id, StepKind.DRAFT)
    assert (step.state, step.attempt, step.outages) == (StepState.READY, 0, 10)
    is_down = False
    run_until_done(runtime)
    assert job_of(runtime, job_id).status == JobStatus.COMPLETED
    assert not job_of(runtime, job_id).degraded


def test_a_process_holds_one_retry_at_a_time(make_runtime: MakeRuntime) -> None:
    """Of several steps that a dead worker held, any may have killed it."""
    runtime = make_runtime(max_attempts=9)
    for _ in range(3):
        submit(runtime, recording("jfk.flac"))

    def claim(retries: bool) -> list[Claim]:
        return claim_steps(runtime.sessions, StepKind.INGEST, 1, "me", runtime.settings, retries=retries)

    lost = [claim_steps(runtime.sessions, StepKind.INGEST, 1, "it died", runtime.settings)[0] for _ in range(3)]
    assert len(lost) == 3
    expire_leases(runtime.sessions)
    healing.heal(runtime)
    with runtime.sessions.begin() as session:
        session.execute(text("UPDATE steps SET run_after = now()"))
    fresh = submit(runtime, recording("jfk.flac"))
    first = runtime.claims.acquire(claim)
    second = runtime.claims.acquire(claim)
    taken = sorted([*first, *second], key=lambda claimed: claimed.attempt)
    assert [claimed.attempt for claimed in taken] == [1, 2]
    assert taken[0].job_id == fresh
    assert runtime.claims.acquire(claim) == []
    runtime.claims.release([*first, *second])
    assert [claimed.attempt for claimed in runtime.claims.acquire(claim)] == [2]
