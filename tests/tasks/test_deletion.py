"""Cancelling, deleting and sweeping: nothing stays behind, and nothing comes back."""

from __future__ import annotations

import uuid
from contextlib import suppress
from types import ModuleType

import pytest
from sqlalchemy import func, text

from db.models import EventType, Job, JobStatus, StepKind
from db.queue.transaction import JobGone, job_transaction
from tasks.handler import Work
from tasks.maintenance import sweep
from tasks.step import commit_or_fail, run
from tasks.steps import draft, finalize, ingest, purge
from tests.jobs import steps_of
from tests.tasks.pipeline import HANDLERS, MakeRuntime, claim_one, event_types, recording, run_until_done, submit
from tests.tasks.webhooks.receivers import deliveries_of, end, subscribe


def test_cancelling_discards_late_output(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording("jfk.flac"))
    run_until_done(runtime, [ingest.handler])
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
    run_until_done(runtime)
    with job_transaction(runtime.sessions, job_id) as tx:
        tx.job.deleted_at = func.now()
        tx.enqueue(StepKind.PURGE)
    run(purge.handler, runtime)
    with runtime.sessions() as session:
        assert session.get(Job, job_id) is None
        for table in ("steps", "chunks", "events", "segments", "hypotheses"):
            assert session.scalar(text(f"SELECT count(*) FROM {table}")) == 0  # noqa: S608
    assert list(runtime.storage.list("")) == []


def test_purging_leaves_of_webhooks_what_is_yet_to_be_told(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording("jfk.flac"))
    subscribe(runtime, "https://hooks.example/")
    run_until_done(runtime)
    end(runtime.sessions, job_id)
    end(runtime.sessions, job_id)
    told = [each.type for each in deliveries_of(runtime.sessions)]
    assert told[-3:] == ["job.completed", "job.cancelled", "job.cancelled"]
    with runtime.sessions.begin() as session:
        session.execute(
            text(
                "UPDATE webhook_deliveries SET state = 'delivered', ended_at = now() "
                "WHERE seq = (SELECT min(seq) FROM webhook_deliveries WHERE type = 'job.cancelled')"
            )
        )
    with job_transaction(runtime.sessions, job_id) as tx:
        tx.skip_open_steps()
        tx.job.deleted_at = func.now()
        tx.enqueue(StepKind.PURGE)
    run(purge.handler, runtime)
    assert [(left.type, left.state) for left in deliveries_of(runtime.sessions)] == [("job.cancelled", "waiting")]


@pytest.mark.parametrize("module", [ingest, finalize])
def test_late_objects_of_a_deleted_job_are_removed(make_runtime: MakeRuntime, module: ModuleType) -> None:
    """Its worker is at work while the job is deleted and purged."""
    runtime = make_runtime()
    job_id = submit(runtime, recording("jfk.flac"))
    run_until_done(runtime, HANDLERS[: HANDLERS.index(module.handler)])
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


def test_the_sweep_removes_only_orphans(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording("jfk.flac"))
    run_until_done(runtime)
    kept = {key for key, _ in runtime.storage.list("")}
    for key in (f"jobs/{job_id}/chunks/00000-0.flac", f"jobs/{uuid.uuid4()}/source", "jobs/odd/thing"):
        runtime.storage.put(key, b"orphan", "x")
    sweep.sweep(runtime)
    assert len({key for key, _ in runtime.storage.list("")}) == len(kept) + 3, "young objects stay"
    sweep.sweep(runtime, grace=-sweep.GRACE)
    assert {key for key, _ in runtime.storage.list("")} == kept
