"""The steps on real servers with engines of our own: order, retries, giving up, fencing, healing."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import ModuleType

import pytest
from sqlalchemy import func, select, text

from db import event_log, transcripts
from db.models import Chunk, EventType, Job, JobStatus, Step, StepKind, StepState
from db.queue import leases
from db.queue.leases import Claim
from db.queue.transaction import JobGone, job_transaction
from db.session import Sessions
from db.settings import Settings
from speech.audio import flac
from speech.engines import Utterance
from tasks import flow
from tasks.errors import Transient
from tasks.maintenance import healing, sweep
from tasks.runtime import Runtime
from tasks.step import Handler, Work, commit_or_fail, expire_lease, run
from tasks.steps import align, draft, finalize, ingest, purge, refine
from tests.jobs import add_chunks, make_job, steps_of
from tests.media import BAD, DATA, tone
from tests.tasks.conftest import FakeRuntime
from tests.waiting import until

MakeRuntime = Callable[..., FakeRuntime]
HANDLERS = (ingest.handler, draft.handler, refine.handler, align.handler, finalize.handler)


def work_off(runtime: Runtime, kinds: Sequence[Handler] = HANDLERS) -> None:
    """Do whatever is ready, until nothing of these kinds is left to be done."""
    open_steps = select(func.count(Step.id)).where(
        Step.state.in_((StepState.READY, StepState.LEASED)), Step.kind.in_([handler.kind for handler in kinds])
    )

    def done() -> bool:
        for handler in kinds:
            while run(handler, runtime):
                pass
        with runtime.sessions() as session:
            return not session.scalar(open_steps)

    until(done, "no step is left")


def submit(runtime: Runtime, body: bytes, **values: object) -> uuid.UUID:
    job_id = make_job(runtime.sessions, bytes=len(body), **values)
    runtime.storage.put(f"jobs/{job_id}/source", body, "audio/flac")
    return job_id


def job_of(runtime: Runtime, job_id: uuid.UUID) -> Job:
    with runtime.sessions() as session:
        return session.get_one(Job, job_id)


def event_types(runtime: Runtime, job_id: uuid.UUID) -> list[str]:
    with runtime.sessions() as session:
        events = event_log.after(session, job_id, 0)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return [event.type for event in events]


def recording(name: str = "ocean_0036.flac") -> bytes:
    return (DATA / name).read_bytes()


def test_a_recording_becomes_a_transcript(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording())
    work_off(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.percent, job.degraded) == (JobStatus.COMPLETED, 100, False)
    assert (job.chunks, job.drafted, job.refined, job.final) == (2, 2, 2, 2)
    assert job.duration == pytest.approx(52.4, abs=0.1)
    assert job.models["refine"]["engine"] == "refine"
    types = event_types(runtime, job_id)
    assert types[:2] == ["job.queued", "job.started"]
    assert types[-1] == "job.completed"
    assert (types.count("segment.draft"), types.count("segment.final")) == (2, 2)
    stored = json.loads(runtime.storage.get(f"{job.transcript_prefix}transcript.json"))
    assert [s["text"] for s in stored["segments"]] == ["we met on Monday"] * 2
    assert [s["index"] for s in stored["segments"]] == [0, 100]
    assert {s.state for s in steps_of(runtime.sessions, job_id)} == {StepState.DONE}


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


def test_chunks_are_drafted_while_ingest_goes_on(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording())
    seen: list[tuple[int, StepState]] = []
    original = runtime.storage.put

    def put(key: str, data: bytes, content_type: str) -> None:
        if "/chunks/00001" in key:
            run(draft.handler, runtime)
            seen.extend((s.chunk or 0, s.state) for s in steps_of(runtime.sessions, job_id, StepKind.DRAFT))
        original(key, data, content_type)

    runtime.storage.put = put  # type: ignore[method-assign]
    run(ingest.handler, runtime)
    assert seen == [(0, StepState.DONE)]


def test_silence_completes_with_an_empty_transcript(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, flac.encode(tone(20)[0] * 0))
    work_off(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.chunks) == (JobStatus.COMPLETED, 0)
    assert json.loads(runtime.storage.get(f"{job.transcript_prefix}transcript.json"))["segments"] == []
    assert runtime.storage.get(f"{job.transcript_prefix}transcript.vtt") == b"WEBVTT\n"


@pytest.mark.parametrize("name", BAD)
def test_bad_media_fails_its_job_with_a_code(make_runtime: MakeRuntime, name: str) -> None:
    runtime = make_runtime()
    make, code = BAD[name]
    job_id = submit(runtime, make())
    work_off(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.error_code) == (JobStatus.FAILED, code)
    assert event_types(runtime, job_id)[-1] == "job.failed"
    assert steps_of(runtime.sessions, job_id, StepKind.INGEST)[0].attempt == 1


def test_a_recording_over_the_limit(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(max_duration=30.0)
    job_id = submit(runtime, recording())
    work_off(runtime)
    job = job_of(runtime, job_id)
    assert job.error_code == "audio_too_long"
    assert "30 s" in (job.error_message or "")


def test_a_recording_gone_from_storage(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = make_job(runtime.sessions)
    work_off(runtime)
    assert job_of(runtime, job_id).error_code == "audio_missing"


def failing(times: int, error: Exception) -> Callable[[Utterance], str]:
    left = [times]

    def hear(utterance: Utterance) -> str:
        if left[0] > 0:
            left[0] -= 1
            raise error
        return "we met on monday"

    return hear


@pytest.mark.parametrize("error", [Transient("busy"), RuntimeError("a bug")])
def test_a_step_that_fails_is_tried_again(make_runtime: MakeRuntime, error: Exception) -> None:
    runtime = make_runtime(draft=failing(2, error))
    job_id = submit(runtime, recording("jfk.flac"))
    work_off(runtime)
    assert job_of(runtime, job_id).status == JobStatus.COMPLETED
    (step,) = steps_of(runtime.sessions, job_id, StepKind.DRAFT)
    assert step.attempt == 3


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


def test_one_bad_chunk_fails_alone(make_runtime: MakeRuntime) -> None:
    first: list[bytes] = []

    def hear(utterance: Utterance) -> str:
        first.append(utterance.samples.tobytes())
        if first[-1] == first[0]:
            raise RuntimeError("poison")
        return "we met on Monday"

    runtime = make_runtime(refine=hear)
    job_id = submit(runtime, recording())
    work_off(runtime)
    with runtime.sessions() as session:
        sources = [s["source"] for s in transcripts.final_segments(session, job_id)]
    assert sources == ["draft", "refined"]


def test_no_model_at_all_fails_the_job(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(draft=failing(999, RuntimeError()), refine=failing(999, RuntimeError()))
    job_id = submit(runtime, recording("jfk.flac"))
    work_off(runtime)
    assert job_of(runtime, job_id).error_code == "transcription_failed"


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
    claimed = leases.claim(runtime.sessions, StepKind.REFINE, 99, "w", runtime.settings)
    assert [claim.chunk for claim in claimed] == [0, lane, 2 * lane]
    with job_transaction(runtime.sessions, job_id) as tx:
        flow.finish_refine(tx, lane)
    claimed = leases.claim(runtime.sessions, StepKind.REFINE, 99, "w", runtime.settings)
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
    claimed = leases.claim(runtime.sessions, StepKind.REFINE, 9, "w", runtime.settings)
    assert [claim.chunk for claim in claimed] == [1]


def claim_one(runtime: Runtime, kind: StepKind) -> Claim:
    (claimed,) = leases.claim(runtime.sessions, kind, 1, "tester", runtime.settings)
    return claimed


def expire_leases(sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.execute(text("UPDATE steps SET lease_until = now() - interval '1 s' WHERE state = 'leased'"))


def test_a_zombie_cannot_overwrite_its_successor(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording("jfk.flac"))
    work_off(runtime, [ingest.handler])
    zombie = claim_one(runtime, StepKind.DRAFT)
    (late,) = draft.handler.work([zombie], Work(runtime, None))  # type: ignore[arg-type]
    expire_leases(runtime.sessions)
    healing.heal(runtime)
    time.sleep(0.01)  # past the backoff of a millisecond
    work_off(runtime)
    before = event_types(runtime, job_id)
    commit_or_fail(draft.handler, runtime, zombie, late)
    assert event_types(runtime, job_id) == before
    (step,) = steps_of(runtime.sessions, job_id, StepKind.DRAFT)
    assert (step.state, step.attempt) == (StepState.DONE, 2)


def test_healing_leaves_a_lease_alone_that_was_renewed(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording("jfk.flac"))
    claimed = claim_one(runtime, StepKind.INGEST)
    expire_lease(runtime, claimed)  # as if seen expired just before its worker renewed it
    (step,) = steps_of(runtime.sessions, job_id, StepKind.INGEST)
    assert (step.state, step.fence) == (StepState.LEASED, claimed.fence)


def test_a_step_that_kills_every_worker_is_set_aside(make_runtime: MakeRuntime) -> None:
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
    work_off(runtime)
    assert job_of(runtime, fine).status == JobStatus.COMPLETED


def test_an_ingest_tried_again_keeps_the_chunks_it_had(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording())
    original, puts = runtime.storage.put, []

    def put(key: str, data: bytes, content_type: str) -> None:
        puts.append(key)
        if len(puts) == 2:
            raise ConnectionError("storage went away")
        original(key, data, content_type)

    runtime.storage.put = put  # type: ignore[method-assign]
    run(ingest.handler, runtime)
    with runtime.sessions() as session:
        (first,) = session.scalars(select(Chunk.key).where(Chunk.job_id == job_id))
    time.sleep(0.01)
    work_off(runtime)
    with runtime.sessions() as session:
        keys = list(session.scalars(select(Chunk.key).where(Chunk.job_id == job_id).order_by(Chunk.index)))
    assert keys[0] == first
    assert len(keys) == 2
    assert job_of(runtime, job_id).status == JobStatus.COMPLETED


def test_cancelling_discards_what_comes_late(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording("jfk.flac"))
    work_off(runtime, [ingest.handler])
    claimed = claim_one(runtime, StepKind.DRAFT)
    (late,) = draft.handler.work([claimed], Work(runtime, None))  # type: ignore[arg-type]
    with job_transaction(runtime.sessions, job_id) as tx:
        tx.job.status = JobStatus.CANCELLED
        tx.skip_open_steps()
        tx.emit(EventType.JOB_CANCELLED, {})
    commit_or_fail(draft.handler, runtime, claimed, late)
    assert event_types(runtime, job_id)[-1] == "job.cancelled"
    assert steps_of(runtime.sessions, job_id, StepKind.REFINE) == []


def test_purging_leaves_neither_rows_nor_objects(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording("jfk.flac"))
    work_off(runtime)
    with job_transaction(runtime.sessions, job_id) as tx:
        tx.job.deleted_at = func.now()
        tx.enqueue(StepKind.PURGE)
    run(purge.handler, runtime)
    with runtime.sessions() as session:
        assert session.get(Job, job_id) is None
        for table in ("steps", "chunks", "events", "segments", "hypotheses"):
            assert session.scalar(text(f"SELECT count(*) FROM {table}")) == 0  # noqa: S608
    assert list(runtime.storage.list("")) == []


@pytest.mark.parametrize("module", [ingest, finalize])
def test_what_a_deleted_job_stores_late_is_removed(make_runtime: MakeRuntime, module: ModuleType) -> None:
    """Its worker is at work while the job is deleted and purged."""
    runtime = make_runtime()
    job_id = submit(runtime, recording("jfk.flac"))
    work_off(runtime, HANDLERS[: HANDLERS.index(module.handler)])
    original = runtime.storage.put

    def put(key: str, data: bytes, content_type: str) -> None:
        with suppress(JobGone), job_transaction(runtime.sessions, job_id) as tx:
            tx.skip_open_steps()
            tx.job.deleted_at = func.now()
            tx.enqueue(StepKind.PURGE)
        run(purge.handler, runtime)
        original(key, data, content_type)

    runtime.storage.put = put  # type: ignore[method-assign]
    run(module.handler, runtime)
    assert list(runtime.storage.list("")) == []


def test_an_output_whose_commit_was_not_heard_of_stays(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    submit(runtime, recording("jfk.flac"))
    work_off(runtime, HANDLERS[:-1])
    claimed = claim_one(runtime, StepKind.FINALIZE)
    (written,) = finalize.handler.work([claimed], Work(runtime, None))  # type: ignore[arg-type]
    assert isinstance(written, finalize.FinalizeOutput)
    commit_or_fail(finalize.handler, runtime, claimed, written)
    commit_or_fail(finalize.handler, runtime, claimed, written)
    assert runtime.storage.get(f"{written.prefix}transcript.json")


def test_sweeping_removes_orphans_alone(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording("jfk.flac"))
    work_off(runtime)
    kept = {key for key, _ in runtime.storage.list("")}
    for key in (f"jobs/{job_id}/chunks/00000-0.flac", f"jobs/{uuid.uuid4()}/source", "jobs/odd/thing"):
        runtime.storage.put(key, b"orphan", "x")
    sweep.sweep(runtime)
    assert len({key for key, _ in runtime.storage.list("")}) == len(kept) + 3, "young objects stay"
    sweep.sweep(runtime, grace=-sweep.GRACE)
    assert {key for key, _ in runtime.storage.list("")} == kept


def test_chunks_that_wait_too_long_keep_their_drafts(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    patient, hasty = (submit(runtime, recording(), options=options) for options in ({}, {"degrade_after": 0.0}))
    work_off(runtime, (ingest.handler, draft.handler))
    claimed = leases.claim(runtime.sessions, StepKind.REFINE, 1, "w", runtime.settings)
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
