"""Exports of training data on real servers: what is taken, once, whole, and nobody on both sides."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from sqlalchemy import select, update

from db import voices
from db.models import (
    Chunk,
    Export,
    FineTune,
    Job,
    JobStatus,
    Sample,
    SegmentSource,
    Split,
    Step,
    StepKind,
    StepState,
    StoredSegment,
    StoredSpeaker,
    StoredVoice,
    VoiceStatus,
)
from db.queue.transaction import job_transaction
from db.storage import ObjectMissing
from db.training import exports
from speech.audio import flac
from speech.engines import Utterance
from speech.training.dataset.filters import Filters, Reason
from speech.training.dataset.text import Cleaning
from tasks import flow
from tasks.maintenance import retention, sweep
from tasks.step import run
from tasks.steps import align, draft, finalize, purge, refine
from tasks.training import nightly
from tasks.training.export import choose, divide
from tasks.training.export import step as export
from tests.jobs import make_job, steps_of
from tests.media import DATA
from tests.tasks.conftest import FakeRuntime
from tests.tasks.pipeline import MakeRuntime, job_of, work_off
from tests.waiting import clear_of_midnight

HANDLERS = (draft.handler, refine.handler, align.handler, finalize.handler)
CARDS = ("manifest.json", "dataset_card.md", "README.md")
"""What tells of the export itself."""
LIBRIVOX = ("librivox_0870.flac", "librivox_0880.flac", "librivox_0890.flac", "librivox_0920.flac")


def said(utterance: Utterance) -> str:
    """Words that only this chunk has, two a second."""
    name = hashlib.sha256(utterance.samples.tobytes()).hexdigest()
    return " ".join(f"w{name[i : i + 5]}" for i in range(max(4, len(utterance.samples) // 8000)))


@pytest.fixture
def runtime(make_runtime: MakeRuntime) -> FakeRuntime:
    clear_of_midnight()
    return make_runtime(said, said, training_tenants=["default"])


def upload(runtime: FakeRuntime, name: str, **values: Any) -> uuid.UUID:
    """A recording of one chunk that has been through everything but its cutting."""
    job_id = make_job(runtime.sessions, language="en", **values)
    body = (DATA / name).read_bytes()
    key = f"jobs/{job_id}/chunks/00000.flac"
    runtime.storage.put(key, body, "audio/flac")
    with job_transaction(runtime.sessions, job_id) as tx:
        tx.skip_open_steps()
        flow.start_job(tx, {})
        tx.session.add(Chunk(job_id=job_id, index=0, start=0.0, end=len(flac.decode(body)) / 16000, key=key))
        tx.session.flush()
        flow.add_chunk(tx, 0)
        tx.job.ingested = True
    work_off(runtime, HANDLERS)
    assert job_of(runtime, job_id).status == JobStatus.COMPLETED
    return job_id


@pytest.fixture
def uploaded(runtime: FakeRuntime) -> list[uuid.UUID]:
    return [upload(runtime, name) for name in LIBRIVOX]


def order(runtime: FakeRuntime, *, dry_run: bool = False, days: int = 0, **filters: Any) -> uuid.UUID:
    """Enqueue the export of today, or of so many days later."""
    since, until = exports.day(datetime.now(UTC).date() + timedelta(days=days))
    with runtime.sessions.begin() as session:
        transaction = exports.start_export(
            session,
            "default",
            since,
            until,
            filters=Filters.from_json(filters).to_json(),
            cleaning=Cleaning().to_json(),
            dry_run=dry_run,
        )
        return transaction.job.id


def exported(runtime: FakeRuntime, **wanted: Any) -> Export:
    """The export of today, done."""
    export_id = order(runtime, **wanted)
    work_off(runtime, [export.handler])
    assert job_of(runtime, export_id).status == JobStatus.COMPLETED
    with runtime.sessions() as session:
        return session.get_one(Export, export_id)


def samples(runtime: FakeRuntime, made: Export) -> list[Sample]:
    with runtime.sessions() as session:
        rows = session.scalars(select(Sample).where(Sample.export_id == made.job_id))
        return sorted(rows, key=lambda row: (row.job_id, row.segment))


def files(runtime: FakeRuntime, made: Export) -> dict[str, bytes]:
    where = exports.prefix(made)
    return {key.removeprefix(where): runtime.storage.get(key) for key, _ in runtime.storage.list(where)}


def lines(data: bytes) -> Iterator[dict[str, Any]]:
    return map(json.loads, data.decode().splitlines())


def correct(runtime: FakeRuntime, job_id: uuid.UUID, text: str, at: datetime | None = None) -> None:
    with job_transaction(runtime.sessions, job_id) as tx:
        tx.session.execute(
            update(StoredSegment)
            .where(StoredSegment.job_id == job_id)
            .values(text=text, source=SegmentSource.HUMAN, confidence=1.0)
        )
        tx.job.corrected_at = at or datetime.now(UTC)


def test_what_both_models_agree_on_becomes_training_data(runtime: FakeRuntime, uploaded: list[uuid.UUID]) -> None:
    made = exported(runtime)
    found = files(runtime, made)
    manifest = json.loads(found["manifest.json"])
    assert manifest == made.summary
    taken = [*lines(found["train.jsonl"]), *lines(found["val.jsonl"])]
    assert len(taken) == len(uploaded) == sum(split["clips"] for split in manifest["splits"].values())
    assert manifest["splits"]["val"]["clips"] >= 1
    for path, known in manifest["files"].items():
        assert (hashlib.sha256(found[path]).hexdigest(), len(found[path])) == (known["sha256"], known["bytes"])
    pairs = (line.split("  ") for line in found["SHA256SUMS"].decode().splitlines())
    sums = {path: digest for digest, path in pairs}
    assert {path for path in found if path.startswith(("raw/", "asr/"))} == sums.keys()
    for line in taken:
        clip = found[line["source"]]
        assert sums[line["source"]] == hashlib.sha256(clip).hexdigest()
        assert len(flac.decode(clip)) / 160 == pytest.approx(line["source_len"], abs=1)
        assert line["text_language"] == "<|en|>"
    (asr,) = (path for path in found if path.startswith("asr/") and str(uploaded[0]) in path)
    assert [line["audio"] for line in lines(found[asr])] == [
        line["source"] for line in taken if line["key"].startswith(str(uploaded[0]))
    ]
    scp = {line.split()[0] for line in found["kaldi/train/wav.scp"].decode().splitlines()}
    assert scp == {line.split()[0] for line in found["kaldi/train/text"].decode().splitlines()}
    assert "dataset_card.md" in found


def test_the_same_night_twice_gives_the_same_set(runtime: FakeRuntime, uploaded: list[uuid.UUID]) -> None:
    first, second = exported(runtime), exported(runtime)
    assert [
        [
            (row.job_id, row.segment, row.reason, row.split, row.person, row.sha256)
            for row in samples(runtime, made)
        ]
        for made in (first, second)
    ] == [
        [
            (row.job_id, row.segment, row.reason, row.split, row.person, row.sha256)
            for row in samples(runtime, first)
        ]
    ] * 2
    ours, theirs = files(runtime, first), files(runtime, second)
    assert {path for path in ours if ours[path] != theirs[path]} <= set(CARDS)


def test_where_the_models_disagree_nothing_is_taken(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(said, lambda utterance: said(utterance)[::-1], training_tenants=["default"])
    upload(runtime, LIBRIVOX[0])
    made = exported(runtime)
    assert [row.reason for row in samples(runtime, made)] == [Reason.DISAGREEMENT]
    assert files(runtime, made)["train.jsonl"] == b""


@pytest.mark.parametrize("failing", ["raw/", "train.jsonl", "manifest.json"])
def test_storage_that_goes_away_amid_an_export_loses_nothing(
    runtime: FakeRuntime, uploaded: list[uuid.UUID], failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = exported(runtime)
    original, calls = runtime.storage.put, []

    def put(key: str, data: bytes, content_type: str) -> None:
        if f"/{failing}" in key:
            calls.append(key)
            if len(calls) == 2 if failing == "raw/" else len(calls) == 1:
                raise EndpointConnectionError(endpoint_url="http://away")
        original(key, data, content_type)

    monkeypatch.setattr(runtime.storage, "put", put)
    export_id = order(runtime)
    run(export.handler, runtime)
    where = f"exports/{datetime.now(UTC).date()}/{export_id}/"
    with pytest.raises(ObjectMissing):
        runtime.storage.get(f"{where}manifest.json")
    assert job_of(runtime, export_id).status == JobStatus.PROCESSING
    work_off(runtime, [export.handler])
    with runtime.sessions() as session:
        again = session.get_one(Export, export_id)
    ours, theirs = files(runtime, whole), files(runtime, again)
    assert ours.keys() == theirs.keys()
    assert all(ours[path] == theirs[path] for path in ours if path not in CARDS)


def test_an_export_goes_on_with_the_jobs_it_has_not_decided_on(
    runtime: FakeRuntime, uploaded: list[uuid.UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[uuid.UUID] = []
    original: Callable[..., Iterator[Sample]] = choose._judge

    def judge(runtime: FakeRuntime, made: Export, job_id: uuid.UUID) -> Iterator[Sample]:
        judged.append(job_id)
        if len(judged) == 3:
            raise RuntimeError("the worker's power fails")
        return original(runtime, made, job_id)

    monkeypatch.setattr(choose, "_judge", judge)
    exported(runtime)
    assert judged[:3] == uploaded[:3]
    assert judged[3:] == uploaded[2:]


def test_a_later_night_takes_only_what_is_new(runtime: FakeRuntime, uploaded: list[uuid.UUID]) -> None:
    exported(runtime)
    upload(runtime, LIBRIVOX[0])  # the same once more, on the day after
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    newest = uploaded[0]
    correct(runtime, newest, "what was really said in this clip", tomorrow)
    correct_at = update(Job).where(Job.id.not_in(uploaded), Job.purpose == "recording")
    with runtime.sessions.begin() as session:
        session.execute(correct_at.values(completed_at=tomorrow))
    later = samples(runtime, exported(runtime, days=1))
    assert {row.job_id: row.reason for row in later} == {
        newest: None,
        **{row.job_id: Reason.DUPLICATE for row in later if row.job_id != newest},
    }
    assert len(later) == 2


def test_nobody_is_both_learned_from_and_measured_on(runtime: FakeRuntime, uploaded: list[uuid.UUID]) -> None:
    ada, bob = [1.0, 0.0], [0.0, 1.0]
    with runtime.sessions.begin() as session:
        for job_id, vector in zip(uploaded, (ada, bob, ada, bob), strict=True):
            session.add(StoredSpeaker(job_id=job_id, label="SPEAKER_00", vector=vector))
        session.execute(update(StoredSegment).values(speaker="SPEAKER_00"))
    correct(runtime, uploaded[0], "corrected by a person just now")
    rows = {row.job_id: row for row in samples(runtime, exported(runtime))}
    first, second, third, fourth = (rows[job_id] for job_id in uploaded)
    assert (first.split, first.reason) == (Split.VAL, None)
    assert (third.split, third.reason) == (None, Reason.HELD_OUT_SPEAKER)
    assert second.split == fourth.split == Split.TRAIN
    assert first.person != second.person == fourth.person


def test_without_consent_nothing_is_taken(runtime: FakeRuntime) -> None:
    private = upload(runtime, LIBRIVOX[0], options={"training": False})
    shared = upload(runtime, LIBRIVOX[1])
    voice = StoredVoice(
        id=uuid.uuid4(), tenant="default", name="Ada", status=VoiceStatus.READY, vector=[1.0], training=False
    )
    with runtime.sessions.begin() as session:
        session.add(voice)
        session.add(StoredSpeaker(job_id=shared, label="SPEAKER_00", vector=[1.0], voice_id=voice.id))
        session.execute(update(StoredSegment).where(StoredSegment.job_id == shared).values(speaker="SPEAKER_00"))
    upload(runtime, LIBRIVOX[2], options={"retain_days": 1e-5})
    made = exported(runtime)
    reasons = {row.job_id: row.reason for row in samples(runtime, made)}
    assert reasons.pop(private) == reasons.pop(shared) == Reason.NO_CONSENT
    assert list(reasons.values()) == [Reason.NOT_RETAINED]
    assert not [path for path in files(runtime, made) if path.startswith(("raw/", "asr/"))]
    with runtime.sessions.begin() as session:
        voices.forget(session, session.get_one(StoredVoice, voice.id))
    later = {row.job_id: row.reason for row in samples(runtime, exported(runtime))}
    assert later[shared] == Reason.NO_CONSENT, "a refusal outlives the voice that it was given for"


def test_a_new_name_neither_consents_nor_vouches_for_the_words(runtime: FakeRuntime) -> None:
    """A person who only says who speaks has not corrected the text, and no name stands above a refusal."""
    refused = upload(runtime, LIBRIVOX[0], options={"training": False})
    renamed = upload(runtime, LIBRIVOX[1])
    corrected = upload(runtime, LIBRIVOX[2])
    with runtime.sessions.begin() as session:
        for segment in session.scalars(select(StoredSegment)):
            segment.machine = segment.to_json() | {"confidence": 0.3}
            segment.source, segment.speaker, segment.confidence = SegmentSource.HUMAN, "Alice", 1.0
            if segment.job_id == corrected:
                segment.text = "what was really said in there"
    rows = {row.job_id: row for row in samples(runtime, exported(runtime))}
    assert rows[refused].reason == Reason.NO_CONSENT
    assert (rows[renamed].reason, rows[renamed].human) == (Reason.UNCERTAIN, False)
    assert (rows[corrected].reason, rows[corrected].human) == (None, True)


def test_a_dry_run_tells_the_same_and_writes_nothing(runtime: FakeRuntime, uploaded: list[uuid.UUID]) -> None:
    told, done = exported(runtime, dry_run=True), exported(runtime)
    assert files(runtime, told) == {}
    assert told.summary is not None
    assert done.summary is not None
    assert told.summary["splits"] == done.summary["splits"]
    assert told.summary["rejections"] == done.summary["rejections"]


def test_a_recording_that_vanishes_midway_is_left_out(
    runtime: FakeRuntime, uploaded: list[uuid.UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(*given: Any) -> None:
        divide.divide(*given)
        for key, _ in runtime.storage.list(f"jobs/{uploaded[1]}/chunks/"):
            runtime.storage.delete([key])

    monkeypatch.setattr(export, "divide", vanish)
    made = exported(runtime)
    reasons = {row.job_id: row.reason for row in samples(runtime, made)}
    assert reasons[uploaded[1]] == Reason.AUDIO_MISSING
    assert made.summary is not None
    assert made.summary["rejections"] == {"audio_missing": 1}
    sums = files(runtime, made)["SHA256SUMS"].decode().splitlines()
    assert len([line for line in sums if line.endswith(".flac")]) == len(uploaded) - 1


def test_a_recording_that_is_damaged_is_left_out(runtime: FakeRuntime, uploaded: list[uuid.UUID]) -> None:
    for job_id, body in zip(uploaded, (b"", b"fLaC and no more"), strict=False):
        runtime.storage.put(f"jobs/{job_id}/chunks/00000.flac", body, "audio/flac")
    reasons = {row.job_id: row.reason for row in samples(runtime, exported(runtime))}
    assert [reasons[job_id] for job_id in uploaded] == [Reason.AUDIO_MISSING] * 2 + [None] * 2


def test_a_clip_that_is_spoilt_is_rejected_by_its_sound(runtime: FakeRuntime) -> None:
    job_id = upload(runtime, LIBRIVOX[0])
    ((key, _),) = runtime.storage.list(f"jobs/{job_id}/chunks/")
    loud = flac.decode(runtime.storage.get(key)) * 60
    runtime.storage.put(key, flac.encode(loud), "audio/flac")
    assert [row.reason for row in samples(runtime, exported(runtime))] == [Reason.CLIPPED]


def test_enough_new_speech_starts_one_fine_tuning(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(said, said, training_tenants=["default"], finetune_hours=8 / 3600)
    upload(runtime, LIBRIVOX[0])
    first = exported(runtime)
    with runtime.sessions() as session:
        assert session.scalars(select(FineTune)).all() == []
    upload(runtime, LIBRIVOX[3])
    second = exported(runtime)
    exported(runtime)  # while the first is waiting, there is no other
    with runtime.sessions() as session:
        (finetune,) = session.scalars(select(FineTune)).all()
    assert set(finetune.exports) == {first.job_id, second.job_id}
    assert finetune.automatic
    (step,) = steps_of(runtime.sessions, finetune.job_id)
    assert (step.kind, step.state) == (StepKind.FINETUNE, StepState.READY)


def test_every_night_is_exported_once_even_if_it_was_missed(
    runtime: FakeRuntime, uploaded: list[uuid.UUID]
) -> None:
    now = datetime.now(UTC)
    tomorrow = datetime(now.year, now.month, now.day, 5, tzinfo=UTC) + timedelta(days=1)
    with runtime.sessions.begin() as session:
        session.execute(update(Job).where(Job.id == uploaded[0]).values(completed_at=now - timedelta(days=2)))
    for _ in range(4):
        nightly.harvest(runtime, tomorrow)
        nightly.harvest(runtime, tomorrow)  # one night at a time
        with runtime.sessions() as session:
            waiting = session.scalars(select(Step.id).where(Step.state == StepState.READY)).all()
        assert len(waiting) <= 1
        work_off(runtime, [export.handler])
    with runtime.sessions() as session:
        made = session.scalars(select(Export).order_by(Export.date)).all()
    assert [one.date for one in made] == [(now - timedelta(days=2)).date(), now.date()]
    assert {row.job_id for row in samples(runtime, made[0])} == {uploaded[0]}
    assert {row.job_id for row in samples(runtime, made[1])} == set(uploaded[1:])


def test_a_night_that_was_deleted_stays_so(runtime: FakeRuntime, uploaded: list[uuid.UUID]) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for _ in range(2):
        nightly.harvest(runtime, tomorrow.replace(hour=5))
        with runtime.sessions() as session:
            (made,) = session.scalars(select(Export)).all()
        with job_transaction(runtime.sessions, made.job_id) as tx:
            tx.job.deleted_at = datetime.now(UTC)
            tx.skip_open_steps()
            tx.enqueue(StepKind.PURGE)
        work_off(runtime, [purge.handler])


def test_before_its_hour_a_night_is_not_over(runtime: FakeRuntime, uploaded: list[uuid.UUID]) -> None:
    now = datetime.now(UTC)
    nightly.harvest(runtime, datetime(now.year, now.month, now.day, 1, tzinfo=UTC) + timedelta(days=1))
    with runtime.sessions() as session:
        assert session.scalars(select(Export)).all() == []


def test_nobody_is_exported_unasked(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(said, said)
    upload(runtime, LIBRIVOX[0])
    nightly.harvest(runtime, datetime.now(UTC) + timedelta(days=1))
    with runtime.sessions() as session:
        assert session.scalars(select(Export)).all() == []


def test_a_deleted_export_leaves_nothing(runtime: FakeRuntime, uploaded: list[uuid.UUID]) -> None:
    made = exported(runtime)
    with job_transaction(runtime.sessions, made.job_id) as tx:
        tx.job.deleted_at = datetime.now(UTC)
        tx.enqueue(StepKind.PURGE)
    work_off(runtime, [purge.handler])
    assert files(runtime, made) == {}
    with runtime.sessions() as session:
        assert session.scalars(select(Sample)).all() == []
        assert session.scalars(select(Job.id).where(Job.id.in_(uploaded))).all() != []


def test_what_no_row_names_is_swept(runtime: FakeRuntime, uploaded: list[uuid.UUID]) -> None:
    made = exported(runtime)
    for key in (f"exports/2020-01-01/{uuid.uuid4()}/train.jsonl", f"models/{uuid.uuid4()}/export/model.onnx"):
        runtime.storage.put(key, b"x", "application/octet-stream")
    sweep.sweep(runtime, grace=timedelta(0), upload_grace=timedelta(0))
    left = {key.split("/")[2] for key, _ in runtime.storage.list("exports/")}
    assert left == {str(made.job_id)}
    assert list(runtime.storage.list("models/")) == []


def test_a_job_past_its_time_is_deleted(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(said, said, retain_days=30.0)
    kept = upload(runtime, LIBRIVOX[0], options={"retain_days": 60})
    gone = upload(runtime, LIBRIVOX[1])
    with runtime.sessions.begin() as session:
        session.execute(update(Job).values(completed_at=datetime.now(UTC) - timedelta(days=31)))
    retention.delete_expired_jobs(runtime)
    work_off(runtime, [purge.handler])
    with runtime.sessions() as session:
        assert session.get(Job, gone) is None
        assert session.get(Job, kept) is not None
    assert list(runtime.storage.list(f"jobs/{gone}/")) == []
