"""Exports that are interrupted, and recordings that are gone or damaged."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from sqlalchemy import delete

from db.models import Export, JobStatus, Sample
from db.objects import removal
from db.objects.storage import ObjectMissing
from db.training import dataset
from speech.audio import flac
from speech.training.dataset.filters import Reason
from tasks.step import run
from tasks.training.export import selection, splits
from tasks.training.export import step as export
from tasks.training.export.clips import write_clips
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import job_of, run_until_done
from tests.tasks.training.exports import (
    DESCRIPTION_FILES,
    RECORDINGS,
    enqueue_export,
    files_of,
    run_export,
    samples_of,
    transcribe_recording,
)


@pytest.mark.parametrize("failing", ["raw/", "train.jsonl", "manifest.json"])
def test_an_export_resumes_after_a_storage_failure(
    runtime: FakeRuntime, job_ids: list[uuid.UUID], failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = run_export(runtime)
    original, calls = runtime.storage.put, []

    def put(key: str, data: bytes, content_type: str) -> None:
        if f"/{failing}" in key:
            calls.append(key)
            if len(calls) == 2 if failing == "raw/" else len(calls) == 1:
                raise EndpointConnectionError(endpoint_url="http://away")
        original(key, data, content_type)

    monkeypatch.setattr(runtime.storage, "put", put)
    export_id = enqueue_export(runtime)
    run(export.handler, runtime)
    prefix = f"exports/{datetime.now(UTC).date()}/{export_id}/"
    with pytest.raises(ObjectMissing):
        runtime.storage.get(f"{prefix}manifest.json")
    assert job_of(runtime, export_id).status == JobStatus.PROCESSING
    run_until_done(runtime, [export.handler])
    with runtime.sessions() as session:
        resumed = session.get_one(Export, export_id)
    files, resumed_files = files_of(runtime, complete), files_of(runtime, resumed)
    assert files.keys() == resumed_files.keys()
    assert all(files[path] == resumed_files[path] for path in files if path not in DESCRIPTION_FILES)


def test_selection_resumes_with_undecided_jobs(
    runtime: FakeRuntime, job_ids: list[uuid.UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[uuid.UUID] = []
    original: Callable[..., Iterator[Sample]] = selection.judge_job

    def judge_job(runtime: FakeRuntime, exported: Export, job_id: uuid.UUID) -> Iterator[Sample]:
        judged.append(job_id)
        if len(judged) == 3:
            raise RuntimeError("the worker's power fails")
        return original(runtime, exported, job_id)

    monkeypatch.setattr(selection, "judge_job", judge_job)
    run_export(runtime)
    assert judged[:3] == job_ids[:3]
    assert judged[3:] == job_ids[2:]


def test_a_recording_deleted_during_the_export_is_rejected(
    runtime: FakeRuntime, job_ids: list[uuid.UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    def assign_and_delete(*arguments: Any) -> None:
        splits.assign_splits(*arguments)
        for key, _ in runtime.storage.list(f"jobs/{job_ids[1]}/chunks/"):
            runtime.storage.delete([key])

    monkeypatch.setattr(export, "assign_splits", assign_and_delete)
    exported = run_export(runtime)
    reasons = {row.job_id: row.reason for row in samples_of(runtime, exported)}
    assert reasons[job_ids[1]] == Reason.AUDIO_MISSING
    assert exported.summary is not None
    assert exported.summary["rejections"] == {"audio_missing": 1}
    sums = files_of(runtime, exported)["SHA256SUMS"].decode().splitlines()
    assert len([line for line in sums if line.endswith(".flac")]) == len(job_ids) - 1


def test_clips_of_who_is_erased_meanwhile_go_even_during_a_backup(
    runtime: FakeRuntime, job_ids: list[uuid.UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = runtime.storage.put
    written: list[str] = []

    def put_and_erase(key: str, data: bytes, content_type: str) -> None:
        original(key, data, content_type)
        if "/raw/" in key and not written:
            with runtime.sessions.begin() as session:
                first = dataset.jobs_with_unwritten_clips(session, uuid.UUID(key.split("/")[2]))[0]
                session.execute(delete(Sample).where(Sample.job_id == first))
            written.append(key)

    def write_during_a_backup(*arguments: Any) -> None:
        with removal.hold(runtime.sessions):
            write_clips(*arguments)

    monkeypatch.setattr(runtime.storage, "put", put_and_erase)
    monkeypatch.setattr(export, "write_clips", write_during_a_backup)
    exported = run_export(runtime)
    assert job_of(runtime, exported.job_id).status == JobStatus.COMPLETED
    with pytest.raises(ObjectMissing):
        runtime.storage.get(written[0])
    assert len({row.job_id for row in samples_of(runtime, exported)}) == len(job_ids) - 1


def test_a_damaged_recording_is_rejected(runtime: FakeRuntime, job_ids: list[uuid.UUID]) -> None:
    for job_id, body in zip(job_ids, (b"", b"fLaC and no more"), strict=False):
        runtime.storage.put(f"jobs/{job_id}/chunks/00000.flac", body, "audio/flac")
    reasons = {row.job_id: row.reason for row in samples_of(runtime, run_export(runtime))}
    assert [reasons[job_id] for job_id in job_ids] == [Reason.AUDIO_MISSING] * 2 + [None] * 2


def test_a_clipped_recording_is_rejected(runtime: FakeRuntime) -> None:
    job_id = transcribe_recording(runtime, RECORDINGS[0])
    ((key, _),) = runtime.storage.list(f"jobs/{job_id}/chunks/")
    loud = flac.decode(runtime.storage.get(key)) * 60
    runtime.storage.put(key, flac.encode(loud), "audio/flac")
    assert [row.reason for row in samples_of(runtime, run_export(runtime))] == [Reason.CLIPPED]
