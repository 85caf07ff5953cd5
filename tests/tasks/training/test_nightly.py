"""The nightly exports."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from sqlalchemy import select, update

from db.models import Export, Job, Step, StepKind, StepState
from db.queue.transaction import job_transaction
from tasks.steps import purge
from tasks.training import nightly
from tasks.training.export import step as export
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import MakeRuntime, run_until_done
from tests.tasks.training.exports import (
    RECORDINGS,
    samples_of,
    transcribe_recording,
    unique_words,
)


def test_missed_days_are_exported_once_and_in_order(runtime: FakeRuntime, job_ids: list[uuid.UUID]) -> None:
    now = datetime.now(UTC)
    tomorrow = datetime(now.year, now.month, now.day, 5, tzinfo=UTC) + timedelta(days=1)
    with runtime.sessions.begin() as session:
        session.execute(update(Job).where(Job.id == job_ids[0]).values(completed_at=now - timedelta(days=2)))
    for _ in range(4):
        nightly.start_nightly_exports(runtime, tomorrow)
        nightly.start_nightly_exports(runtime, tomorrow)  # one day at a time
        with runtime.sessions() as session:
            ready = session.scalars(select(Step.id).where(Step.state == StepState.READY)).all()
        assert len(ready) <= 1
        run_until_done(runtime, [export.handler])
    with runtime.sessions() as session:
        exported = session.scalars(select(Export).order_by(Export.date)).all()
    assert [one.date for one in exported] == [(now - timedelta(days=2)).date(), now.date()]
    assert {row.job_id for row in samples_of(runtime, exported[0])} == {job_ids[0]}
    assert {row.job_id for row in samples_of(runtime, exported[1])} == set(job_ids[1:])


def test_a_deleted_nightly_export_is_not_repeated(runtime: FakeRuntime, job_ids: list[uuid.UUID]) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for _ in range(2):
        nightly.start_nightly_exports(runtime, tomorrow.replace(hour=5))
        with runtime.sessions() as session:
            (exported,) = session.scalars(select(Export)).all()
        with job_transaction(runtime.sessions, exported.job_id) as tx:
            tx.job.deleted_at = datetime.now(UTC)
            tx.skip_open_steps()
            tx.enqueue(StepKind.PURGE)
        run_until_done(runtime, [purge.handler])


def test_a_day_is_not_exported_before_the_export_hour(runtime: FakeRuntime, job_ids: list[uuid.UUID]) -> None:
    now = datetime.now(UTC)
    nightly.start_nightly_exports(
        runtime, datetime(now.year, now.month, now.day, 1, tzinfo=UTC) + timedelta(days=1)
    )
    with runtime.sessions() as session:
        assert session.scalars(select(Export)).all() == []


def test_tenants_that_have_not_opted_in_are_not_exported(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(unique_words, unique_words)
    transcribe_recording(runtime, RECORDINGS[0])
    nightly.start_nightly_exports(runtime, datetime.now(UTC) + timedelta(days=1))
    with runtime.sessions() as session:
        assert session.scalars(select(Export)).all() == []
