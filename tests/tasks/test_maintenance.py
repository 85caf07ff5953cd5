"""One job's data cannot stop the maintenance of others' jobs."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, func, text

from db.models import Export, Job, JobStatus, StepKind
from db.queue.transaction import JobTransaction, job_transaction
from db.session import Sessions
from tasks import flow
from tasks.maintenance import healing, retention, sweep
from tasks.training.export.candidates import _is_retained
from tests.jobs import add_chunks, make_job, steps_of
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import MakeRuntime

STORED = ["1e12", "1e400", "-1", "1e-400", '"NaN"', '"soon"', "null", "[]", "{}", "true", "1" + "0" * 4000]
"""What an older version may have stored for a number, as JSON."""


def store_option(runtime: FakeRuntime, name: str, value: str, **values: Any) -> uuid.UUID:
    """A job of another tenant with an option written past all checks."""
    job_id = make_job(runtime.sessions, tenant="other", **values)
    options = f'{{"{name}": {value}}}'
    with runtime.sessions.begin() as session:
        session.execute(
            text("UPDATE jobs SET options = CAST(:options AS jsonb) WHERE id = :id"),
            {"options": options, "id": job_id},
        )
    return job_id


def completed(runtime: FakeRuntime, job_id: uuid.UUID) -> uuid.UUID:
    with job_transaction(runtime.sessions, job_id) as tx:
        tx.job.status, tx.job.transcript_prefix = JobStatus.COMPLETED, "x"
        tx.job.completed_at = func.now() - timedelta(days=9)
    return job_id


def deleted(runtime: FakeRuntime, job_id: uuid.UUID) -> bool:
    with runtime.sessions() as session:
        return session.get_one(Job, job_id).deleted_at is not None


@pytest.mark.parametrize("value", STORED)
@pytest.mark.parametrize("default", [None, 30.0])
def test_retention_survives_what_is_stored(make_runtime: MakeRuntime, value: str, default: float | None) -> None:
    runtime = make_runtime(retain_days=default)
    completed(runtime, store_option(runtime, "retain_days", value))
    late = completed(runtime, make_job(runtime.sessions, options={"retain_days": 2}))
    early = completed(runtime, make_job(runtime.sessions, options={"retain_days": 20}))
    sweep.sweep(runtime)
    assert deleted(runtime, late)
    assert not deleted(runtime, early)


def test_the_servers_own_limit_counts_where_a_job_has_none(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(retain_days=2.0)
    for value in ('"soon"', "null"):
        late = completed(runtime, store_option(runtime, "retain_days", value))
        kept = completed(runtime, store_option(runtime, "retain_days", "1e12"))
        retention.erase_expired(runtime)
        assert deleted(runtime, late)
        assert not deleted(runtime, kept)


def waiting(runtime: FakeRuntime, job_id: uuid.UUID) -> uuid.UUID:
    """A chunk of the job waits for its refinement."""
    add_chunks(runtime.sessions, job_id, 1, StepKind.REFINE)
    with job_transaction(runtime.sessions, job_id) as tx:
        tx.job.status = JobStatus.PROCESSING
    return job_id


def states(runtime: FakeRuntime, job_id: uuid.UUID) -> list[str]:
    return [step.state for step in steps_of(runtime.sessions, job_id, StepKind.REFINE)]


@pytest.mark.parametrize("value", STORED)
def test_healing_survives_what_is_stored(make_runtime: MakeRuntime, value: str) -> None:
    runtime = make_runtime()
    waiting(runtime, store_option(runtime, "degrade_after", value))
    hasty = waiting(runtime, make_job(runtime.sessions, options={"degrade_after": 0}))
    healing.heal(runtime)
    assert states(runtime, hasty) == ["skipped"]


def test_a_job_that_cannot_be_settled_does_not_keep_others_waiting(
    make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime()
    jobs = [waiting(runtime, make_job(runtime.sessions, options={"degrade_after": 0})) for _ in range(3)]
    broken, original = sorted(jobs)[0], flow.finish_refine

    def finish(tx: JobTransaction, chunk: int) -> None:
        if tx.job.id == broken:
            raise KeyError("an option that this version does not know")
        original(tx, chunk)

    monkeypatch.setattr(flow, "finish_refine", finish)
    healing.heal(runtime)
    assert {job: states(runtime, job) for job in jobs} == {
        job: ["ready" if job == broken else "skipped"] for job in jobs
    }


def test_a_locked_job_does_not_keep_others_from_deletion(make_runtime: MakeRuntime, sessions: Sessions) -> None:
    runtime = make_runtime()
    event.listen(
        runtime.sessions.kw["bind"], "connect", lambda connection, _: connection.execute("SET lock_timeout = 99")
    )
    late = [completed(runtime, make_job(sessions, options={"retain_days": 2})) for _ in range(2)]
    with job_transaction(sessions, min(late)):
        retention.erase_expired(runtime)
    assert {job: deleted(runtime, job) for job in late} == {min(late): False, max(late): True}


@pytest.mark.parametrize(
    ("days", "retained"), [(1e12, True), (10**30, True), (None, True), (0.5, False), (-1, False)]
)
def test_an_export_survives_absurd_retention_periods(
    make_runtime: MakeRuntime, days: float | None, retained: bool
) -> None:
    runtime = make_runtime()
    job_id = make_job(runtime.sessions, options={"retain_days": days})
    with runtime.sessions() as session:
        job = session.get_one(Job, job_id)
        export = Export(until=job.created_at + timedelta(days=1))
        assert _is_retained(runtime, session, job, export) is retained
