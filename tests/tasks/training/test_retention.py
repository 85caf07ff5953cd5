"""Sweeping and retention of training data and jobs."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from sqlalchemy import update

from db.models import Job
from tasks.maintenance import retention, sweep
from tasks.steps import purge
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import MakeRuntime, run_until_done
from tests.tasks.training.exports import (
    RECORDINGS,
    run_export,
    transcribe_recording,
    unique_words,
)


def test_files_of_unknown_exports_and_versions_are_swept(runtime: FakeRuntime, job_ids: list[uuid.UUID]) -> None:
    exported = run_export(runtime)
    for key in (f"exports/2020-01-01/{uuid.uuid4()}/train.jsonl", f"models/{uuid.uuid4()}/export/model.onnx"):
        runtime.storage.put(key, b"x", "application/octet-stream")
    sweep.sweep(runtime, grace=timedelta(0), upload_grace=timedelta(0))
    left = {key.split("/")[2] for key, _ in runtime.storage.list("exports/")}
    assert left == {str(exported.job_id)}
    assert list(runtime.storage.list("models/")) == []


def test_a_job_past_its_retention_is_deleted(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(unique_words, unique_words, retain_days=30.0)
    kept = transcribe_recording(runtime, RECORDINGS[0], options={"retain_days": 60})
    gone = transcribe_recording(runtime, RECORDINGS[1])
    with runtime.sessions.begin() as session:
        session.execute(update(Job).values(completed_at=datetime.now(UTC) - timedelta(days=31)))
    retention.erase_expired(runtime)
    run_until_done(runtime, [purge.handler])
    with runtime.sessions() as session:
        assert session.get(Job, gone) is None
        assert session.get(Job, kept) is not None
    assert list(runtime.storage.list(f"jobs/{gone}/")) == []
