"""Metering through the pipeline: what is done counts once, whatever happens to the job or its workers."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import func, select

from api.routes.jobs import cancel, delete
from db.access import usage
from db.models import Job, JobStatus, StepKind, StepState, StoredVoice, UsageRecord, VoiceStatus
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction, job_transaction
from speech.audio import flac
from speech.engines import SAMPLE_RATE, Utterance
from tasks.handler import Handler, Work
from tasks.maintenance import healing
from tasks.runtime import Runtime
from tasks.step import commit_or_fail, run
from tasks.steps import diarize, draft, embed, ingest, purge, refine
from tests.conftest import MODELS
from tests.jobs import steps_of
from tests.metering import counted, processed, usage_losses
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import (
    HANDLERS,
    MakeRuntime,
    claim_one,
    expire_leases,
    job_of,
    recording,
    run_until_done,
    submit,
)
from tests.tasks.test_retry import BrokenEngine, retry

ENROLMENT = (ingest.handler, diarize.handler, embed.handler, purge.handler)
KEY = uuid.uuid4()


def change(runtime: Runtime, job_id: uuid.UUID, what: Callable[[JobTransaction], None]) -> None:
    with job_transaction(runtime.sessions, job_id) as tx:
        what(tx)


def rows_of(runtime: Runtime, job_id: uuid.UUID) -> list[UsageRecord]:
    with runtime.sessions() as session:
        found = select(UsageRecord).where(UsageRecord.job_id == job_id).order_by(UsageRecord.id)
        return list(session.scalars(found))


def begin(runtime: Runtime, handler: Handler) -> tuple[Handler, Runtime, Claim, Any]:
    """The arguments of ``commit_or_fail`` for a step whose work is done."""
    claimed = claim_one(runtime, handler.kind)
    (output,) = handler.work([claimed], Work(runtime, None))  # type: ignore[arg-type]
    return handler, runtime, claimed, output


def assert_counted(runtime: Runtime, job_id: uuid.UUID) -> None:
    with runtime.sessions() as session:
        assert usage_losses(session, job_id) == []


def test_a_job_has_one_row_for_each_stage_and_its_rows_outlive_it(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording(), tenant="acme", key_id=KEY)
    run_until_done(runtime)
    assert job_of(runtime, job_id).chunks == 2
    assert_counted(runtime, job_id)
    rows = rows_of(runtime, job_id)
    assert [(row.stage, row.engine, row.model) for row in sorted(rows, key=lambda row: row.stage)] == [
        ("draft", "draft", "fake"),
        ("refine", "refine", "fake"),
        ("upload", None, None),
    ]
    assert {(row.tenant, row.key_id) for row in rows} == {("acme", KEY)}
    change(runtime, job_id, partial(delete, requested_by="tester"))
    run(purge.handler, runtime)
    with runtime.sessions() as session:
        assert session.get(Job, job_id) is None
        assert usage.audio_seconds_since(session, "acme", rows[0].at) == pytest.approx(rows[0].audio_seconds)
        assert usage.audio_seconds_since(session, "default", rows[0].at) == 0
    assert [row.id for row in rows_of(runtime, job_id)] == [row.id for row in rows]


def test_the_upload_counts_before_the_job_ends(make_runtime: MakeRuntime) -> None:
    """Quotas read it."""
    runtime = make_runtime()
    job_id = submit(runtime, recording())
    run(ingest.handler, runtime)
    (row,) = rows_of(runtime, job_id)
    assert (row.stage, row.audio_seconds, row.bytes) == (
        "upload",
        job_of(runtime, job_id).duration,
        len(recording()),
    )


def test_a_crashed_worker_and_its_successor_count_once(make_runtime: MakeRuntime) -> None:
    """The first does the work, is taken for dead, and wakes up when the second has committed."""
    runtime = make_runtime()
    job_id = submit(runtime, recording())
    claim_one(runtime, StepKind.INGEST)
    expire_leases(runtime.sessions)
    healing.heal(runtime)
    run_until_done(runtime, [ingest.handler])
    for handler in (draft.handler, refine.handler):
        late = begin(runtime, handler)
        expire_leases(runtime.sessions)
        healing.heal(runtime)
        run_until_done(runtime, [handler])
        commit_or_fail(*late)
    run_until_done(runtime)
    assert job_of(runtime, job_id).status == JobStatus.COMPLETED
    assert_counted(runtime, job_id)
    assert len(rows_of(runtime, job_id)) == 3


def test_two_commits_of_one_claim_count_once(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording("jfk.flac"))
    run_until_done(runtime, [ingest.handler])
    for handler in HANDLERS[1:]:
        step = begin(runtime, handler)
        threads = [Thread(target=commit_or_fail, args=step) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert job_of(runtime, job_id).status == JobStatus.COMPLETED
    assert_counted(runtime, job_id)


def test_a_retried_job_adds_what_was_missing(make_runtime: MakeRuntime) -> None:
    broken = BrokenEngine()
    drafted: list[Utterance] = []

    def second_fails(utterance: Utterance) -> str:
        drafted.append(utterance)
        return "we met on monday" if len(drafted) == 1 else broken(utterance)

    runtime = make_runtime(draft=second_fails)
    runtime.max_batch_size = 1
    job_id = submit(runtime, recording(), options={"refine": "never"})
    run_until_done(runtime)
    assert job_of(runtime, job_id).error_code == "step_failed"
    assert_counted(runtime, job_id)
    failed = rows_of(runtime, job_id)
    assert [row.stage for row in failed] == ["upload", "draft"]
    broken.broken = False
    retry(runtime, job_id)
    run_until_done(runtime)
    assert job_of(runtime, job_id).status == JobStatus.COMPLETED
    assert_counted(runtime, job_id)
    rows = rows_of(runtime, job_id)
    assert [row.stage for row in rows] == ["upload", "draft", "draft"]
    assert [row.id for row in rows[:2]] == [row.id for row in failed]


def test_a_job_cancelled_and_retried_at_every_step_counts_each_once(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    runtime.max_batch_size = 1
    job_id = submit(runtime, recording())
    while job_of(runtime, job_id).status != JobStatus.COMPLETED:
        under_way = [
            begin(runtime, handler)
            for handler in (draft.handler, refine.handler)
            if any(step.state == StepState.READY for step in steps_of(runtime.sessions, job_id, handler.kind))
        ]
        change(runtime, job_id, cancel)
        for late in under_way:
            commit_or_fail(*late)
        assert_counted(runtime, job_id)
        retry(runtime, job_id)
        any(run(handler, runtime) for handler in HANDLERS)
    assert_counted(runtime, job_id)
    with runtime.sessions() as session:
        assert processed(session, job_id)["refine"] > 10


@pytest.mark.parametrize("done", range(5))
def test_a_job_deleted_while_it_is_in_work_leaves_what_was_done(make_runtime: MakeRuntime, done: int) -> None:
    """After so many steps, and with one more under way."""
    runtime = make_runtime()
    runtime.max_batch_size = 1
    job_id = submit(runtime, recording(), diarize=False)
    for handler in HANDLERS[:done]:
        run(handler, runtime)
    late = begin(runtime, draft.handler) if done in (1, 2) else None
    with runtime.sessions() as session:
        expected = processed(session, job_id)
    change(runtime, job_id, partial(delete, requested_by="tester"))
    if late is not None:
        commit_or_fail(*late)
    assert_counted(runtime, job_id)
    run_until_done(runtime, [purge.handler])
    with runtime.sessions() as session:
        assert session.get(Job, job_id) is None
        assert counted(session, job_id) == pytest.approx(expected)
        assert bool(expected) == (done > 0)


def test_a_step_that_ends_on_a_deleted_job_counts_before_its_rows_go(make_runtime: MakeRuntime) -> None:
    """As when retention deletes a job that somebody is retrying at that moment."""
    runtime = make_runtime()
    job_id = submit(runtime, recording("jfk.flac"))

    def hide(tx: JobTransaction) -> None:
        tx.job.deleted_at = func.now()
        tx.enqueue(StepKind.PURGE)

    run(ingest.handler, runtime)
    change(runtime, job_id, hide)
    run(draft.handler, runtime)
    with runtime.sessions() as session:
        expected = processed(session, job_id)
    run(purge.handler, runtime)
    with runtime.sessions() as session:
        assert counted(session, job_id) == pytest.approx(expected)
        assert {"upload", "draft"} == set(expected)


def test_settling_again_adds_nothing(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording())
    run_until_done(runtime)
    before = len(rows_of(runtime, job_id))
    with runtime.sessions.begin() as session:
        usage.settle(session, session.get_one(Job, job_id))
    assert len(rows_of(runtime, job_id)) == before


def test_an_unreadable_recording_counts_nothing(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, b"no sound at all")
    run_until_done(runtime)
    assert job_of(runtime, job_id).status == JobStatus.FAILED
    assert rows_of(runtime, job_id) == []


def test_steps_of_an_older_version_count_nothing(make_runtime: MakeRuntime) -> None:
    """They do not say what they processed."""
    runtime = make_runtime()
    job_id = submit(runtime, recording("jfk.flac"))
    run_until_done(runtime, [ingest.handler, draft.handler])
    with runtime.sessions.begin() as session:
        for step in steps_of(runtime.sessions, job_id):
            session.merge(step).result = None if step.kind == StepKind.INGEST else {"confidence": 1.0}
    run_until_done(runtime)
    assert [row.stage for row in rows_of(runtime, job_id)] == ["upload", "refine"]


@pytest.mark.parametrize(("name", "status"), [("jfk.flac", VoiceStatus.READY), ("zh_asr_example.flac", None)])
def test_an_enrolment_counts(make_runtime: MakeRuntime, name: str, status: VoiceStatus | None) -> None:
    """Its job and its rows are gone by then."""
    runtime: FakeRuntime = make_runtime(models_dir=MODELS)
    voice = StoredVoice(id=uuid.uuid4(), tenant="default", name="Ada")
    with runtime.sessions.begin() as session:
        session.add(voice)
    body = recording(name)
    job_id = submit(runtime, body, voice_id=voice.id, diarize=True)
    run_until_done(runtime, ENROLMENT)
    with runtime.sessions() as session:
        assert session.get(Job, job_id) is None
        ended = session.get_one(StoredVoice, voice.id).status
        seconds = counted(session, job_id)
    assert seconds["upload"] == pytest.approx(len(flac.decode(body)) / SAMPLE_RATE)
    assert 0 < seconds["diarize"] <= seconds["upload"]
    assert ended == (status or VoiceStatus.FAILED)
    # one that fails has no voiceprint
    assert seconds["embed"] == (seconds["diarize"] if status else 0)
