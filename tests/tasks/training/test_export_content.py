"""What an export contains: decisions, splits, files, and the fine-tuning that may follow."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from db.models import FineTune, Job, Sample, Split, StepKind, StepState, StoredSegment, StoredSpeaker
from db.queue.transaction import job_transaction
from speech.audio import flac
from speech.training.dataset.filters import Reason
from tasks.steps import purge
from tests.jobs import steps_of
from tests.metering import counted
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import MakeRuntime, run_until_done
from tests.tasks.training.exports import (
    DESCRIPTION_FILES,
    RECORDINGS,
    correct_transcript,
    files_of,
    json_lines,
    run_export,
    samples_of,
    transcribe_recording,
    unique_words,
)


def test_segments_on_which_both_models_agree_are_exported(runtime: FakeRuntime, job_ids: list[uuid.UUID]) -> None:
    exported = run_export(runtime)
    files = files_of(runtime, exported)
    manifest = json.loads(files["manifest.json"])
    assert manifest == exported.summary
    clips = [*json_lines(files["train.jsonl"]), *json_lines(files["val.jsonl"])]
    assert len(clips) == len(job_ids) == sum(split["clips"] for split in manifest["splits"].values())
    assert manifest["splits"]["val"]["clips"] >= 1
    for path, known in manifest["files"].items():
        assert (hashlib.sha256(files[path]).hexdigest(), len(files[path])) == (known["sha256"], known["bytes"])
    pairs = (line.split("  ") for line in files["SHA256SUMS"].decode().splitlines())
    sums = {path: digest for digest, path in pairs}
    assert {path for path in files if path.startswith(("raw/", "asr/"))} == sums.keys()
    for line in clips:
        clip = files[line["source"]]
        assert sums[line["source"]] == hashlib.sha256(clip).hexdigest()
        assert len(flac.decode(clip)) / 160 == pytest.approx(line["source_len"], abs=1)
        assert line["text_language"] == "<|en|>"
    (asr,) = (path for path in files if path.startswith("asr/") and str(job_ids[0]) in path)
    assert [line["audio"] for line in json_lines(files[asr])] == [
        line["source"] for line in clips if line["key"].startswith(str(job_ids[0]))
    ]
    scp = {line.split()[0] for line in files["kaldi/train/wav.scp"].decode().splitlines()}
    assert scp == {line.split()[0] for line in files["kaldi/train/text"].decode().splitlines()}
    assert "dataset_card.md" in files
    with runtime.sessions() as session:
        seconds = sum(line["source_len"] for line in clips) / 100
        assert counted(session, exported.job_id) == {"export": pytest.approx(seconds, abs=0.1)}


def test_the_same_day_twice_gives_the_same_set(runtime: FakeRuntime, job_ids: list[uuid.UUID]) -> None:
    first, second = run_export(runtime), run_export(runtime)
    assert [
        [
            (row.job_id, row.segment, row.reason, row.split, row.person, row.sha256)
            for row in samples_of(runtime, exported)
        ]
        for exported in (first, second)
    ] == [
        [
            (row.job_id, row.segment, row.reason, row.split, row.person, row.sha256)
            for row in samples_of(runtime, first)
        ]
    ] * 2
    first_files, second_files = files_of(runtime, first), files_of(runtime, second)
    assert {path for path in first_files if first_files[path] != second_files[path]} <= set(DESCRIPTION_FILES)


def test_segments_on_which_the_models_disagree_are_rejected(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(
        unique_words, lambda utterance: unique_words(utterance)[::-1], training_tenants=["default"]
    )
    transcribe_recording(runtime, RECORDINGS[0])
    exported = run_export(runtime)
    assert [row.reason for row in samples_of(runtime, exported)] == [Reason.DISAGREEMENT]
    assert files_of(runtime, exported)["train.jsonl"] == b""


def test_a_later_export_rejects_duplicates(runtime: FakeRuntime, job_ids: list[uuid.UUID]) -> None:
    run_export(runtime)
    transcribe_recording(runtime, RECORDINGS[0])  # the same once more, on the day after
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    newest = job_ids[0]
    correct_transcript(runtime, newest, "what was really said in this clip", tomorrow)
    correct_at = update(Job).where(Job.id.not_in(job_ids), Job.purpose == "recording")
    with runtime.sessions.begin() as session:
        session.execute(correct_at.values(completed_at=tomorrow))
    later = samples_of(runtime, run_export(runtime, days=1, max_correction=1.0))
    assert {row.job_id: row.reason for row in later} == {
        newest: None,
        **{row.job_id: Reason.DUPLICATE for row in later if row.job_id != newest},
    }
    assert len(later) == 2


def test_nobody_is_in_both_splits(runtime: FakeRuntime, job_ids: list[uuid.UUID]) -> None:
    ada, bob = [1.0, 0.0], [0.0, 1.0]
    with runtime.sessions.begin() as session:
        for job_id, vector in zip(job_ids, (ada, bob, ada, bob), strict=True):
            session.add(StoredSpeaker(job_id=job_id, label="SPEAKER_00", vector=vector))
        session.execute(update(StoredSegment).values(speaker="SPEAKER_00"))
    correct_transcript(runtime, job_ids[0], "corrected by a person just now")
    rows = {row.job_id: row for row in samples_of(runtime, run_export(runtime, max_correction=1.0))}
    first, second, third, fourth = (rows[job_id] for job_id in job_ids)
    assert (first.split, first.reason) == (Split.VAL, None)
    assert (third.split, third.reason) == (None, Reason.HELD_OUT_SPEAKER)
    assert second.split == fourth.split == Split.TRAIN
    assert first.person != second.person == fourth.person


def test_a_dry_run_has_the_same_manifest_and_writes_nothing(
    runtime: FakeRuntime, job_ids: list[uuid.UUID]
) -> None:
    planned, exported = run_export(runtime, dry_run=True), run_export(runtime)
    assert files_of(runtime, planned) == {}
    assert planned.summary is not None
    assert exported.summary is not None
    assert planned.summary["splits"] == exported.summary["splits"]
    assert planned.summary["rejections"] == exported.summary["rejections"]


def test_deleting_an_export_deletes_its_files(runtime: FakeRuntime, job_ids: list[uuid.UUID]) -> None:
    exported = run_export(runtime)
    with job_transaction(runtime.sessions, exported.job_id) as tx:
        tx.job.deleted_at = datetime.now(UTC)
        tx.enqueue(StepKind.PURGE)
    run_until_done(runtime, [purge.handler])
    assert files_of(runtime, exported) == {}
    with runtime.sessions() as session:
        assert session.scalars(select(Sample)).all() == []
        assert session.scalars(select(Job.id).where(Job.id.in_(job_ids))).all() != []


def test_enough_unused_speech_starts_one_fine_tuning(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(unique_words, unique_words, training_tenants=["default"], finetune_hours=8 / 3600)
    transcribe_recording(runtime, RECORDINGS[0])
    first = run_export(runtime)
    with runtime.sessions() as session:
        assert session.scalars(select(FineTune)).all() == []
    transcribe_recording(runtime, RECORDINGS[3])
    second = run_export(runtime)
    run_export(runtime)  # while the first is waiting, there is no other
    with runtime.sessions() as session:
        (finetune,) = session.scalars(select(FineTune)).all()
    assert set(finetune.exports) == {first.job_id, second.job_id}
    assert finetune.automatic
    (step,) = steps_of(runtime.sessions, finetune.job_id)
    assert (step.kind, step.state) == (StepKind.FINETUNE, StepState.READY)
