"""Erasure and retention: what was to go is nowhere any more, what was not stays, and a certificate says so."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, func, select, text, update

from db import jobs, readings
from db.erasure import certificates, persons, withdrawal
from db.erasure.deletion import delete_job
from db.models import (
    Base,
    ErasedKind,
    Erasure,
    ErasureReason,
    Event,
    FineTune,
    Job,
    JobPurpose,
    JobStatus,
    KnownSpeaker,
    ModelVersion,
    ReadingKind,
    Role,
    Sample,
    SavedSearch,
    SegmentSource,
    Step,
    StepKind,
    StepState,
    StoredSegment,
    StoredSpeaker,
    StoredTurn,
    StoredVoice,
    Tenant,
    VoiceStatus,
    Withdrawal,
)
from db.queue.transaction import JobTransaction, job_transaction
from tasks.errors import Superseded
from tasks.handler import Work
from tasks.maintenance import healing, retention, sweep
from tasks.step import commit_or_fail, run
from tasks.steps import erase, purge
from tasks.training.export import selection
from tasks.training.export import step as export
from tests.jobs import make_job
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import MakeRuntime, claim_one, job_of, run_until_done
from tests.tasks.training.exports import (
    RECORDINGS,
    enqueue_export,
    files_of,
    run_export,
    samples_of,
    transcribe_recording,
    unique_words,
)
from tests.waiting import avoid_midnight

ADA = "Ada Lovelace"
SECRET = "mention of the engine"
WRITTEN_ANEW = [purge.handler, export.handler]


@pytest.fixture
def runtime(make_runtime: MakeRuntime) -> FakeRuntime:
    avoid_midnight()
    return make_runtime(unique_words, unique_words, training_tenants=["default"])


def change(runtime: FakeRuntime, job_id: uuid.UUID, do: Callable[[JobTransaction], None]) -> None:
    with job_transaction(runtime.sessions, job_id) as tx:
        do(tx)


def hide(tx: JobTransaction) -> None:
    delete_job(tx, ErasureReason.DELETED, "tester")


def erasures(runtime: FakeRuntime, subject: object | None = None) -> list[Erasure]:
    query = select(Erasure).order_by(Erasure.requested_at)
    with runtime.sessions() as session:
        return list(session.scalars(query if subject is None else query.where(Erasure.subject == str(subject))))


def words_of(runtime: FakeRuntime, job_id: uuid.UUID) -> list[str]:
    with runtime.sessions() as session:
        texts = session.scalars(select(StoredSegment.text).where(StoredSegment.job_id == job_id))
        return " ".join(texts).split()


def traces(runtime: FakeRuntime, mark: str) -> list[str]:
    """Tables and objects that hold the text."""
    found = []
    with runtime.sessions() as session:
        for table in Base.metadata.tables:
            rows = session.scalars(text(f'SELECT CAST(to_jsonb(t) AS text) FROM "{table}" t'))  # noqa: S608
            found += [f"{table}: {row}" for row in rows if mark in row]
    for key, _ in runtime.storage.list(""):
        if mark.encode() in runtime.storage.get(key) or mark in key:
            found.append(key)
    return found


def test_deleting_a_job_takes_its_clips_out_of_exports(runtime: FakeRuntime) -> None:
    job_ids = [transcribe_recording(runtime, name) for name in RECORDINGS]
    exported = run_export(runtime)
    gone = job_ids[0]
    clips = [sample for sample in samples_of(runtime, exported) if sample.job_id == gone and sample.sha256]
    words = words_of(runtime, gone)
    assert clips
    assert any(words[0].encode() in body for body in files_of(runtime, exported).values())
    change(runtime, gone, hide)
    run(purge.handler, runtime)
    (erasure,) = erasures(runtime, gone)
    assert erasure.counts is not None
    assert (erasure.counts["clips"], erasure.counts["segments"]) == (len(clips), 1)
    assert erasure.erased_at is None, "the lists still name them"
    healing.heal(runtime)
    assert job_of(runtime, exported.job_id).status == JobStatus.PROCESSING
    run_until_done(runtime, [export.handler])
    (erasure,) = erasures(runtime, gone)
    assert erasure.erased_at is not None
    assert (erasure.what, erasure.reason, erasure.requested_by) == ("job", "deleted", "tester")
    for word in words:
        assert traces(runtime, word) == []
    files = files_of(runtime, exported)
    manifest = json.loads(files["manifest.json"])
    (withdrawn,) = manifest["withdrawn"]
    assert (withdrawn["export"], len(withdrawn["clips"])) == (str(exported.job_id), len(clips))
    assert not set(withdrawn["clips"]) & set(files)
    assert set(manifest["files"]) | {path for path in files if path.startswith(("raw/", "asr/"))} | {
        "manifest.json",
        "dataset_card.md",
        "README.md",
    } == set(files)
    assert manifest["splits"]["train"]["clips"] + manifest["splits"]["val"]["clips"] == len(
        [path for path in files if path.startswith("raw/")]
    )
    healing.heal(runtime)
    assert job_of(runtime, exported.job_id).status == JobStatus.COMPLETED, "once is enough"


def test_the_next_manifest_says_what_was_withdrawn_and_those_after_it_do_not(runtime: FakeRuntime) -> None:
    job_ids = [transcribe_recording(runtime, name) for name in RECORDINGS[:3]]
    first = run_export(runtime)
    change(runtime, job_ids[0], hide)
    run(purge.handler, runtime)
    looked = run_export(runtime, dry_run=True)
    second, third = run_export(runtime, days=1), run_export(runtime, days=2)
    healing.heal(runtime)
    run_until_done(runtime, [export.handler])

    def withdrawn(export_id: uuid.UUID) -> list[str]:
        with runtime.sessions() as session:
            summary = session.get_one(type(first), export_id).summary
        assert summary is not None
        return [each["export"] for each in summary["withdrawn"]]

    told = str(first.job_id)
    assert withdrawn(looked.job_id) == withdrawn(second.job_id) == withdrawn(first.job_id) == [told]
    assert withdrawn(third.job_id) == []


def test_an_export_that_is_being_written_does_not_bring_a_clip_back(runtime: FakeRuntime) -> None:
    """The job is deleted after its clips are decided on and before they are written."""
    job_ids = [transcribe_recording(runtime, name) for name in RECORDINGS[:3]]
    export_id = enqueue_export(runtime)
    put, written = runtime.storage.put, list[str]()

    def slowly(key: str, data: bytes, content_type: str) -> None:
        if "/raw/" in key and not written:
            written.append(key)
            change(runtime, job_ids[0], hide)
            run(purge.handler, runtime)
        put(key, data, content_type)

    runtime.storage.put = slowly  # type: ignore[method-assign]
    words = words_of(runtime, job_ids[0])
    run_until_done(runtime, [export.handler, purge.handler])
    healing.heal(runtime)
    run_until_done(runtime, [export.handler])
    assert written
    assert job_of(runtime, export_id).status == JobStatus.COMPLETED
    assert all(traces(runtime, word) == [] for word in words)
    with runtime.sessions() as session:
        clips = {sample.segment for sample in session.scalars(select(Sample)) if sample.job_id == job_ids[0]}
    assert not clips
    assert not [key for key, _ in runtime.storage.list("exports/") if str(job_ids[0]) in key]
    (erasure,) = erasures(runtime, job_ids[0])
    assert erasure.erased_at is not None


def test_a_clip_written_while_its_job_is_purged_goes_too(runtime: FakeRuntime) -> None:
    """The purge has looked for clips before the export writes any."""
    job_ids = [transcribe_recording(runtime, name) for name in RECORDINGS[:3]]
    enqueue_export(runtime)
    purging: list[Any] = []
    put = runtime.storage.put

    def late(key: str, data: bytes, content_type: str) -> None:
        if "/raw/" in key and str(job_ids[0]) in key and not purging:
            change(runtime, job_ids[0], hide)
            claimed = claim_one(runtime, StepKind.PURGE)
            purging.append((claimed, purge.handler.work([claimed], Work(runtime, None))[0]))  # type: ignore[arg-type]
        put(key, data, content_type)

    runtime.storage.put = late  # type: ignore[method-assign]
    run_until_done(runtime, [export.handler])
    ((claimed, output),) = purging
    commit_or_fail(purge.handler, runtime, claimed, output)
    run_until_done(runtime, [purge.handler])
    healing.heal(runtime)
    run_until_done(runtime, [export.handler])
    assert not [key for key, _ in runtime.storage.list("exports/") if str(job_ids[0]) in key]
    (erasure,) = erasures(runtime, job_ids[0])
    assert erasure.erased_at is not None
    assert erasure.counts is not None
    assert erasure.counts["clips"] == 1


def test_deleting_an_export_certifies_it_and_what_waits_for_its_lists(runtime: FakeRuntime) -> None:
    job_ids = [transcribe_recording(runtime, name) for name in RECORDINGS[:2]]
    exported = run_export(runtime)
    change(runtime, job_ids[0], hide)
    run(purge.handler, runtime)
    change(runtime, exported.job_id, hide)
    run(purge.handler, runtime)
    by_what = {erasure.what: erasure for erasure in erasures(runtime)}
    assert set(by_what) == {"job", "export"}
    assert all(erasure.erased_at for erasure in by_what.values())
    assert list(runtime.storage.list("exports/")) == []


def deleting(runtime: FakeRuntime, mark: str, job_id: uuid.UUID, deleted: uuid.UUID | None = None) -> list[str]:
    """Delete and purge a job amid the first write of such an object of it."""
    put, done = runtime.storage.put, list[str]()

    def slowly(key: str, data: bytes, content_type: str) -> None:
        if mark in key and str(job_id) in key and not done:
            done.append(key)
            change(runtime, deleted or job_id, end_and_hide)
            run(purge.handler, runtime)
        put(key, data, content_type)

    runtime.storage.put = slowly  # type: ignore[method-assign]
    return done


def end_and_hide(tx: JobTransaction) -> None:
    if not tx.job.status.finished:
        tx.job.status = JobStatus.CANCELLED
        tx.skip_open_steps()
    hide(tx)


def test_a_list_of_texts_written_late_goes_too(runtime: FakeRuntime) -> None:
    job_ids = [transcribe_recording(runtime, name) for name in RECORDINGS[:3]]
    words = words_of(runtime, job_ids[0])
    enqueue_export(runtime)
    done = deleting(runtime, "/asr/", job_ids[0])
    run_until_done(runtime, [export.handler, purge.handler])
    healing.heal(runtime)
    run_until_done(runtime, [export.handler])
    assert done
    assert all(traces(runtime, word) == [] for word in words)
    (erasure,) = erasures(runtime, job_ids[0])
    assert erasure.erased_at is not None


def test_a_clip_that_a_dead_worker_wrote_goes_too(runtime: FakeRuntime) -> None:
    job_ids = [transcribe_recording(runtime, name) for name in RECORDINGS[:3]]
    enqueue_export(runtime)
    put, done = runtime.storage.put, list[str]()

    def dies(key: str, data: bytes, content_type: str) -> None:
        put(key, data, content_type)
        if "/raw/" in key and str(job_ids[0]) in key and not done:
            done.append(key)
            raise ValueError("the process dies here")

    runtime.storage.put = dies  # type: ignore[method-assign]
    run(export.handler, runtime)
    change(runtime, job_ids[0], hide)
    run_until_done(runtime, [purge.handler])
    later(runtime)
    run_until_done(runtime, [export.handler])
    healing.heal(runtime)
    run_until_done(runtime, [export.handler])
    assert done
    assert not [key for key, _ in runtime.storage.list("exports/") if str(job_ids[0]) in key]
    (erasure,) = erasures(runtime, job_ids[0])
    assert erasure.erased_at is not None


def test_what_is_written_into_a_deleted_export_is_swept(runtime: FakeRuntime) -> None:
    job_ids = [transcribe_recording(runtime, name) for name in RECORDINGS[:2]]
    export_id = enqueue_export(runtime)
    done = deleting(runtime, "/asr/", job_ids[0], export_id)
    run_until_done(runtime, [export.handler, purge.handler])
    assert done
    sweep.sweep(runtime, timedelta(0), timedelta(0))
    assert list(runtime.storage.list("exports/")) == []


def test_a_person_erased_while_an_export_decides_does_not_come_back(
    runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol_ada(runtime)
    conversation(runtime)
    enqueue_export(runtime)
    judge, done = selection.judge_job, list[uuid.UUID]()

    def slowly(*arguments: Any) -> Any:
        decided = list(judge(*arguments))
        if not done:
            done.append(ask(runtime))
            run(erase.handler, runtime)
        return iter(decided)

    monkeypatch.setattr(selection, "judge_job", slowly)
    run_until_done(runtime, [export.handler, erase.handler])
    assert done
    assert traces(runtime, SECRET) == []


def test_exports_listed_at_the_same_time_close_a_certificate(runtime: FakeRuntime) -> None:
    erasure_id, withdrawals = uuid.uuid4(), list[int]()
    with runtime.sessions.begin() as session:
        certificates.request(
            session,
            "default",
            ErasedKind.JOB,
            "x",
            reason=ErasureReason.DELETED,
            requested_by="tester",
            erasure_id=erasure_id,
        )
        for _ in range(2):
            row = Withdrawal(
                tenant="default", export_id=uuid.uuid4(), erasure_id=erasure_id, clips=["a"], seconds=1.0
            )
            session.add(row)
            session.flush()
            withdrawals.append(row.id)
        certificates.certify(session, erasure_id, {})
    both = threading.Barrier(2)

    def mark(withdrawal_id: int) -> None:
        with runtime.sessions.begin() as session:
            both.wait(10)
            withdrawal.mark_listed(session, [withdrawal_id])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(mark, withdrawals))
    (erasure,) = erasures(runtime, "x")
    assert erasure.erased_at is not None


def test_an_export_that_could_not_be_listed_anew_is_tried_again(runtime: FakeRuntime) -> None:
    job_ids = [transcribe_recording(runtime, name) for name in RECORDINGS[:3]]
    exported = run_export(runtime)
    words = words_of(runtime, job_ids[0])
    change(runtime, job_ids[0], hide)
    run(purge.handler, runtime)
    healing.heal(runtime)
    with runtime.sessions.begin() as session:
        session.execute(update(Step).where(Step.kind == StepKind.EXPORT).values(attempt=3))
    put = runtime.storage.put

    def broken(key: str, data: bytes, content_type: str) -> None:
        raise ValueError("a bug")

    runtime.storage.put = broken  # type: ignore[method-assign]
    run(export.handler, runtime)
    runtime.storage.put = put  # type: ignore[method-assign]
    assert job_of(runtime, exported.job_id).status == JobStatus.FAILED
    sweep.sweep(runtime)
    run_until_done(runtime, [export.handler])
    (erasure,) = erasures(runtime, job_ids[0])
    assert erasure.erased_at is not None
    assert traces(runtime, words[0]) == []


def test_deleting_twice_is_deleting_once(runtime: FakeRuntime) -> None:
    job_id = transcribe_recording(runtime, RECORDINGS[0])
    change(runtime, job_id, hide)
    change(runtime, job_id, hide)
    run_until_done(runtime, [purge.handler])
    (erasure,) = erasures(runtime, job_id)
    assert erasure.erased_at is not None


def test_a_purge_that_was_given_up_is_taken_up_by_the_sweep(runtime: FakeRuntime) -> None:
    job_id = transcribe_recording(runtime, RECORDINGS[0])
    change(runtime, job_id, hide)
    with runtime.sessions.begin() as session:
        session.execute(update(Step).where(Step.kind == StepKind.PURGE).values(state=StepState.DEAD))
    sweep.sweep(runtime)
    run_until_done(runtime, [purge.handler])
    (erasure,) = erasures(runtime, job_id)
    assert erasure.erased_at is not None


def test_what_an_older_version_purged_is_certified(runtime: FakeRuntime) -> None:
    job_id = transcribe_recording(runtime, RECORDINGS[0])
    change(runtime, job_id, hide)
    with runtime.sessions.begin() as session:
        session.execute(delete(Job).where(Job.id == job_id))
    sweep.sweep(runtime)
    (erasure,) = erasures(runtime, job_id)
    assert (erasure.erased_at is not None, erasure.counts) == (True, {})


def test_versions_that_learnt_from_erased_clips_are_counted(runtime: FakeRuntime) -> None:
    """Those on top of them, too, and the one that is being tuned."""
    job_ids = [transcribe_recording(runtime, name) for name in RECORDINGS[:3]]
    exported = run_export(runtime)
    with runtime.sessions.begin() as session:
        learnt = {
            "role": Role.DRAFT,
            "exports": [exported.job_id],
            "seconds": 1.0,
            "automatic": False,
            "options": {},
        }
        for status, numbers in ((JobStatus.COMPLETED, (1, 2)), (JobStatus.PROCESSING, ())):
            tuning = jobs.without_recording("default", JobPurpose.FINETUNE)
            tuning.status = status
            session.add(tuning)
            session.flush()
            session.add(FineTune(job_id=tuning.id, tenant="default", **learnt))
            session.flush()
            base = "sensevoice-small"
            for number in numbers:
                of = {"tenant": "default", "role": Role.DRAFT, "engine": "sensevoice", "number": number}
                version = ModelVersion(id=uuid.uuid4(), **of, base=base, metrics={}, files={})
                version.finetune_id = tuning.id if number == 1 else None
                session.add(version)
                session.flush()
                base = str(version.id)
    change(runtime, job_ids[0], hide)
    run_until_done(runtime, [purge.handler])
    (erasure,) = erasures(runtime, job_ids[0])
    assert erasure.counts is not None
    assert erasure.counts["tuned_versions"] == 3


# retention


def aged(runtime: FakeRuntime, days: float) -> None:
    with runtime.sessions.begin() as session:
        session.execute(update(Job).values(completed_at=datetime.now(UTC) - timedelta(days=days)))


def own(runtime: FakeRuntime, tenant: str, **values: float) -> None:
    with runtime.sessions.begin() as session:
        session.merge(Tenant(name=tenant, **values))


def test_each_tenant_keeps_recordings_for_as_long_as_it_says(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(retain_audio_days=20.0)
    jobs = {
        name: transcribe_recording(runtime, RECORDINGS[0], tenant=name) for name in ("short", "long", "default")
    }
    own(runtime, "short", retain_audio_days=5)
    own(runtime, "long", retain_audio_days=50)
    aged(runtime, 10)
    sweep.sweep(runtime)
    assert {name for name, job in jobs.items() if job_of(runtime, job).audio_erased_at} == {"short"}
    aged(runtime, 30)
    sweep.sweep(runtime)
    assert {name for name, job in jobs.items() if job_of(runtime, job).audio_erased_at} == {"short", "default"}
    job = job_of(runtime, jobs["short"])
    left = [key for key, _ in runtime.storage.list(f"jobs/{job.id}/")]
    assert left
    assert all(key.startswith(f"{job.transcript_prefix}") for key in left), "the transcript stays"
    (erasure,) = erasures(runtime, job.id)
    assert (erasure.what, erasure.reason, erasure.requested_by) == ("audio", "retention", "retention")
    assert erasure.erased_at is not None
    assert erasure.counts == {"objects": 1}


def test_samples_of_people_go_with_the_recording(runtime: FakeRuntime) -> None:
    job_id = transcribe_recording(runtime, RECORDINGS[0])
    with runtime.sessions.begin() as session:
        session.add(KnownSpeaker(job_id=job_id, name=ADA, sample=b"RIFF"))
    own(runtime, "default", retain_audio_days=5)
    aged(runtime, 6)
    sweep.sweep(runtime)
    assert traces(runtime, ADA) == []


def test_a_recording_that_storage_would_not_remove_goes_in_the_next_round(
    make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime(retain_audio_days=20.0)
    job_id = transcribe_recording(runtime, RECORDINGS[0])
    aged(runtime, 30)

    def broken(keys: object) -> None:
        raise ValueError("the process dies here")

    with monkeypatch.context() as patched:
        patched.setattr(runtime.storage, "delete", broken)
        retention.erase_expired(runtime)
    (erasure,) = erasures(runtime, job_id)
    assert (job_of(runtime, job_id).audio_erased_at is not None, erasure.erased_at) == (True, None)
    sweep.sweep(runtime)
    (erasure,) = erasures(runtime, job_id)
    assert erasure.erased_at is not None
    assert not [key for key, _ in runtime.storage.list("") if "chunks" in key]


def test_a_second_sweep_does_not_change_a_certificate(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(retain_audio_days=5.0)
    job_id = transcribe_recording(runtime, RECORDINGS[0])
    aged(runtime, 10)
    sweep.sweep(runtime)
    (before,) = erasures(runtime, job_id)
    retention._erase_audio(runtime, before)
    (after,) = erasures(runtime, job_id)
    assert (after.counts, after.erased_at) == (before.counts, before.erased_at)


def test_a_tenants_number_of_days_bounds_that_of_its_jobs(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(retain_days=1.0)
    own(runtime, "default", retain_transcript_days=30)
    jobs = {
        days: transcribe_recording(runtime, RECORDINGS[0], options={"retain_days": days} if days else {})
        for days in (None, 10, 90)
    }
    for age, expected in ((20, {10}), (31, {None, 10, 90})):
        aged(runtime, age)
        sweep.sweep(runtime)
        assert {days for days, job in jobs.items() if job_of(runtime, job).deleted_at} == expected


def test_events_go_and_later_ones_stay_until_their_time(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = transcribe_recording(runtime, RECORDINGS[0])
    kept = transcribe_recording(runtime, RECORDINGS[0], tenant="other")
    own(runtime, "default", retain_events_days=5)
    aged(runtime, 6)

    def events(of: uuid.UUID) -> int:
        with runtime.sessions() as session:
            return session.scalar(select(func.count()).where(Event.job_id == of)) or 0

    before = events(job_id)
    sweep.sweep(runtime)
    assert (events(job_id), events(kept)) == (0, before)
    (erasure,) = erasures(runtime, "default")
    assert (erasure.what, erasure.counts) == ("events", {"jobs": 1, "events": before})
    sweep.sweep(runtime)
    assert len(erasures(runtime, "default")) == 1, "nothing was left"
    with job_transaction(runtime.sessions, job_id) as tx:
        number = readings.start(tx, ReadingKind.SUMMARY, {}).number
    with job_transaction(runtime.sessions, job_id) as tx:
        readings.fail(tx, number, "engine_away", "Nobody answers.")
    sweep.sweep(runtime)
    assert events(job_id) == 2, "a reading has events of its own, which are new"
    with runtime.sessions.begin() as session:
        a_week_ago = datetime.now(UTC) - timedelta(days=7)
        session.execute(update(Job).values(events_erased_at=a_week_ago, read_at=a_week_ago + timedelta(days=1)))
    sweep.sweep(runtime)
    assert events(job_id) == 0


# persons


def conversation(runtime: FakeRuntime, name: str = RECORDINGS[0], *, others: bool = True, **job: Any) -> uuid.UUID:
    """A completed job in which Ada, who is SPEAKER_01, speaks; somebody else does too."""
    job_id = transcribe_recording(runtime, name, **job)
    ada = voice_of(runtime, job.get("tenant", "default"))
    with job_transaction(runtime.sessions, job_id) as tx:
        add = tx.session.add
        add(
            StoredSpeaker(
                job_id=job_id, label="SPEAKER_01", name=ADA, voice_id=ada.id if ada else None, vector=[1.0, 0.0]
            )
        )
        add(StoredSpeaker(job_id=job_id, label="SPEAKER_00", vector=[0.0, 1.0]))
        tx.session.flush()
        add(StoredTurn(job_id=job_id, index=0, start=0.0, end=1.0, speaker="SPEAKER_01"))
        (first,) = tx.session.scalars(select(StoredSegment).where(StoredSegment.job_id == job_id)).all()
        first.speaker = "SPEAKER_00" if others else "SPEAKER_01"
        add(
            StoredSegment(
                job_id=job_id,
                index=1,
                chunk=0,
                start=first.end,
                end=first.end + 1,
                text=SECRET,
                speaker="SPEAKER_01",
                language="en",
                confidence=1.0,
                source=SegmentSource.REFINED,
                words=[{"text": SECRET, "start": 0.0, "end": 1.0, "confidence": 1.0}],
            )
        )
        tx.job.models = tx.job.models | {"embed": {"engine": "fake", "model": "campplus"}}
        put(runtime, f"{tx.job.transcript_prefix}transcript.txt", f"{ADA}: {SECRET}")
    return job_id


def put(runtime: FakeRuntime, key: str, body: str) -> None:
    runtime.storage.put(key, body.encode(), "text/plain")


def enrol_ada(runtime: FakeRuntime, tenant: str = "default") -> uuid.UUID:
    voice = StoredVoice(
        id=uuid.uuid4(), tenant=tenant, name=ADA, status=VoiceStatus.READY, model="campplus", vector=[1.0, 0.0]
    )
    with runtime.sessions.begin() as session:
        session.add(voice)
        session.flush()
        return voice.id


def voice_of(runtime: FakeRuntime, tenant: str = "default") -> StoredVoice | None:
    with runtime.sessions() as session:
        return session.scalar(select(StoredVoice).where(StoredVoice.tenant == tenant))


def ask(runtime: FakeRuntime, name: str = ADA, *, similar: bool = False, dry_run: bool = False) -> uuid.UUID:
    with runtime.sessions.begin() as session:
        transaction = persons.start_erasure(
            session,
            "default",
            name=name,
            voice=voice_of(runtime),
            similar=similar,
            dry_run=dry_run,
            requested_by="tester",
            key_id=None,
        )
        return transaction.job.id


def carry_out(runtime: FakeRuntime, **wanted: Any) -> Erasure:
    erasure_id = ask(runtime, **wanted)
    run_until_done(runtime, [erase.handler, purge.handler])
    healing.heal(runtime)
    run_until_done(runtime, [export.handler])
    with runtime.sessions() as session:
        return session.get_one(Erasure, erasure_id)


def test_everything_of_a_person_goes_and_others_stay(runtime: FakeRuntime) -> None:
    enrol_ada(runtime)
    about = {"hotwords": [ADA], "webhook": {"url": f"https://hooks.example/{ADA}"}, "source": "news"}
    shared = conversation(
        runtime, filename=f"{ADA}.mp3", source_url=f"https://talks.example/{ADA}.mp3", options=about
    )
    alone = conversation(runtime, RECORDINGS[1], others=False)
    stranger = conversation(runtime, RECORDINGS[2], tenant="other")
    kept = " ".join(words_of(runtime, shared)).replace(f" {SECRET}", "")
    with runtime.sessions.begin() as session:
        for name, query in (
            (f"all of {ADA}", {"q": "plan"}),
            ("by her", {"q": "plan", "speaker": ADA}),
            ("of her", {"q": f'plan "{ADA.lower()}"'}),
            ("of others", {"q": "100% _plan"}),
        ):
            session.add(SavedSearch(id=uuid.uuid4(), tenant="default", name=name, query=query))
        session.add(SavedSearch(id=uuid.uuid4(), tenant="other", name=ADA, query={"q": "plan"}))
    erasure = carry_out(runtime)
    assert erasure.erased_at is not None
    assert erasure.counts is not None
    assert {name: erasure.counts[name] for name in ("recordings", "segments", "voiceprints", "deleted_jobs")} == {
        "recordings": 2,
        "segments": 3,
        "voiceprints": 1,
        "deleted_jobs": 1,
    }
    assert voice_of(runtime) is None
    with runtime.sessions.begin() as session:
        left = session.scalars(select(SavedSearch).order_by(SavedSearch.tenant)).all()
        assert [(saved.tenant, saved.name) for saved in left] == [("default", "of others"), ("other", ADA)]
        session.delete(left[1])
    for mark in (ADA, SECRET):
        assert [trace for trace in traces(runtime, mark) if str(stranger) not in trace] == []
    assert traces(runtime, ADA), "the other tenant's are not touched"
    with runtime.sessions() as session:
        assert session.get(Job, alone) is None
        segments = session.scalars(
            select(StoredSegment).where(StoredSegment.job_id == shared).order_by(StoredSegment.index)
        ).all()
        assert [segment.text for segment in segments] == [kept, persons.ERASED]
        assert (segments[1].words, segments[1].speaker) == ([], None)
        speakers = session.scalars(select(StoredSpeaker.label).where(StoredSpeaker.job_id == shared)).all()
        assert speakers == ["SPEAKER_00"]
        assert session.scalar(select(func.count()).where(StoredTurn.job_id == shared)) == 0
        events = session.scalars(select(Event.type).where(Event.job_id == shared)).all()
        assert events == ["job.erased"]
    job = job_of(runtime, shared)
    assert job.audio_erased_at is not None
    assert (job.source_url, job.options) == (None, {"source": "news"})
    assert list(runtime.storage.list(f"jobs/{shared}/")) == []
    assert job_of(runtime, erasure.id).options == {}


def test_a_persons_clips_are_withdrawn_and_nobody_elses(runtime: FakeRuntime) -> None:
    enrol_ada(runtime)
    shared = conversation(runtime)
    with runtime.sessions.begin() as session:
        # the clip is cut from where the audio is
        session.execute(
            update(StoredSegment)
            .where(StoredSegment.job_id == shared, StoredSegment.index == 0)
            .values(speaker="SPEAKER_01")
        )
        session.execute(
            update(StoredSegment)
            .where(StoredSegment.job_id == shared, StoredSegment.index == 1)
            .values(speaker="SPEAKER_00")
        )
    other = transcribe_recording(runtime, RECORDINGS[1])
    exported = run_export(runtime)
    words = words_of(runtime, shared)[:-4]
    clips = [sample for sample in samples_of(runtime, exported) if sample.sha256]
    assert {sample.job_id for sample in clips} == {shared, other}
    carry_out(runtime)
    assert all(traces(runtime, word) == [] for word in words)
    with runtime.sessions() as session:
        (withdrawn,) = session.scalars(select(Withdrawal))
    assert withdrawn.listed_at is not None
    files = files_of(runtime, exported)
    assert [path for path in files if path.startswith("raw/")] == [
        path for path in files if path.startswith("raw/") and str(other) in path
    ]


def test_a_clip_goes_that_was_divided_since_it_was_exported(runtime: FakeRuntime) -> None:
    enrol_ada(runtime)
    shared = conversation(runtime)
    exported = run_export(runtime)
    assert [sample.segment for sample in samples_of(runtime, exported) if sample.sha256] == [0]
    with runtime.sessions.begin() as session:
        # its second half is hers, and is called by another number
        first, hers = (session.get_one(StoredSegment, (shared, index)) for index in (0, 1))
        hers.start, hers.end, first.end = first.end / 2, first.end, first.end / 2
    words = words_of(runtime, shared)[:-4]
    erasure = carry_out(runtime)
    assert erasure.counts is not None
    assert erasure.counts["clips"] == 1
    assert not [path for path in files_of(runtime, exported) if path.startswith("raw/")]
    with runtime.sessions() as session:
        assert session.scalar(select(func.count()).where(Sample.job_id == shared)) == 0
    assert words, "what others said stays in the transcript"


def test_what_is_erased_comes_back_by_no_edit(runtime: FakeRuntime) -> None:
    shared = conversation(runtime)
    with runtime.sessions.begin() as session:
        # it was joined with hers, and corrected then
        first = session.get_one(StoredSegment, (shared, 0))
        first.machine = first.to_json() | {"text": f"{first.text} {SECRET}"}
        first.source = SegmentSource.HUMAN
        spoken = first.text
    carry_out(runtime)
    assert traces(runtime, SECRET) == []
    with runtime.sessions() as session:
        first, hers = (session.get_one(StoredSegment, (shared, index)) for index in (0, 1))
        assert first.text == spoken
        assert first.machine == first.to_json() | {"version": 0}
        newest = session.scalar(select(Job.event_seq).where(Job.id == shared))
        assert (first.version, hers.version) == (0, newest), "who changes what was there before is refused"


def test_a_sample_of_a_person_goes_with_the_job_that_never_listened_to_it(runtime: FakeRuntime) -> None:
    failed = make_job(runtime.sessions)
    with job_transaction(runtime.sessions, failed) as tx:
        tx.session.add(KnownSpeaker(job_id=failed, name=ADA, sample=SECRET.encode()))
        jobs.fail(tx, "internal_error", "It failed.")
    erasure = carry_out(runtime)
    assert erasure.counts is not None
    assert erasure.counts["deleted_jobs"] == 1
    with runtime.sessions() as session:
        assert session.get(Job, failed) is None


def test_a_dry_run_finds_and_changes_nothing(runtime: FakeRuntime) -> None:
    enrol_ada(runtime)
    shared = conversation(runtime)

    def state() -> list[str]:
        with runtime.sessions() as session:
            return [
                row
                for table in sorted(set(Base.metadata.tables) - {"erasures", "jobs", "steps", "events"})
                for row in session.scalars(text(f'SELECT CAST(to_jsonb(t) AS text) FROM "{table}" t ORDER BY 1'))  # noqa: S608
            ] + sorted(key for key, _ in runtime.storage.list(""))

    before = state()
    erasure = carry_out(runtime, dry_run=True)
    assert erasure.found == [{"job_id": str(shared), "found_by": ["voice"], "segments": 1, "clips": 0}]
    assert state() == before
    assert ADA not in str(job_of(runtime, erasure.id).options)


def test_a_name_that_was_typed_in_is_found_without_a_voice(runtime: FakeRuntime) -> None:
    shared = conversation(runtime)
    stranger = conversation(runtime, RECORDINGS[1])
    with runtime.sessions.begin() as session:
        session.execute(update(StoredSpeaker).values(name=None))
        session.execute(
            update(StoredSegment)
            .where(StoredSegment.job_id == shared, StoredSegment.index == 1)
            .values(speaker=ADA, source=SegmentSource.HUMAN, machine={"speaker": "SPEAKER_01", "text": SECRET})
        )
    # nobody knows that it was her
    runtime.storage.delete([key for key, _ in runtime.storage.list(f"jobs/{stranger}/transcript-")])
    erasure = carry_out(runtime)
    assert erasure.found is not None
    assert [(entry["job_id"], entry["found_by"]) for entry in erasure.found] == [(str(shared), ["name"])]
    assert traces(runtime, ADA) == []
    assert [trace for trace in traces(runtime, SECRET) if str(stranger) not in trace] == []
    with runtime.sessions() as session:
        labels = session.scalars(select(StoredSpeaker.label).where(StoredSpeaker.job_id == shared)).all()
        assert labels == ["SPEAKER_00"], "her voiceprint was under the machine's label"
        assert session.scalar(select(func.count()).where(StoredSpeaker.job_id == stranger)) == 2
    assert job_of(runtime, stranger).audio_erased_at is None


def test_a_sample_that_came_with_a_failed_job_goes_too(runtime: FakeRuntime) -> None:
    state = {"status": JobStatus.FAILED, "error_code": "step_failed", "error_message": "it failed"}
    failed, other = (make_job(runtime.sessions, **state) for _ in range(2))
    with runtime.sessions.begin() as session:
        session.add_all(
            [
                KnownSpeaker(job_id=failed, name=ADA, sample=b"her voice"),
                KnownSpeaker(job_id=other, name="Bob", sample=b"his voice"),
            ]
        )
    erasure = carry_out(runtime)
    assert erasure.found is not None
    assert [entry["job_id"] for entry in erasure.found] == [str(failed)]
    with runtime.sessions() as session:
        assert session.scalars(select(KnownSpeaker.name)).all() == ["Bob"]


def test_asking_twice_erases_nobody_else(runtime: FakeRuntime) -> None:
    enrol_ada(runtime)
    conversation(runtime)
    stranger = conversation(runtime, RECORDINGS[1])
    with runtime.sessions.begin() as session:
        session.execute(
            update(StoredSpeaker).where(StoredSpeaker.job_id == stranger).values(name=None, voice_id=None)
        )
    first, second = ask(runtime), ask(runtime)
    run_until_done(runtime, [erase.handler, purge.handler])
    assert [bool(found) for found in (found_by(runtime, first), found_by(runtime, second))] == [True, False]
    assert job_of(runtime, stranger).audio_erased_at is None


def found_by(runtime: FakeRuntime, erasure_id: uuid.UUID) -> list[dict[str, Any]]:
    with runtime.sessions() as session:
        return session.get_one(Erasure, erasure_id).found or []


def test_somebody_who_sounds_alike_and_is_known_is_spared(runtime: FakeRuntime) -> None:
    ada, shared = enrol_ada(runtime), conversation(runtime)
    named = conversation(runtime, RECORDINGS[1])
    with runtime.sessions.begin() as session:
        alike = update(StoredSpeaker).where(StoredSpeaker.label == "SPEAKER_00").values(vector=[0.9, 0.43])
        session.execute(alike)
        session.execute(alike.where(StoredSpeaker.job_id == shared).values(name="Bob", voice_id=uuid.uuid4()))
        session.execute(
            update(StoredSegment)
            .where(StoredSegment.job_id == named, StoredSegment.index == 0)
            .values(speaker="Bob", source=SegmentSource.HUMAN, machine={"speaker": "SPEAKER_00"})
        )
    erasure = carry_out(runtime, similar=True, dry_run=True)
    assert erasure.subject == str(ada)
    assert erasure.found is not None
    assert {entry["job_id"]: entry["segments"] for entry in erasure.found} == {str(shared): 1, str(named): 1}


def test_who_was_never_matched_is_found_by_similarity_alone(runtime: FakeRuntime) -> None:
    enrol_ada(runtime)
    shared = conversation(runtime)
    with runtime.sessions.begin() as session:
        session.execute(update(StoredSpeaker).values(name=None, voice_id=None))
    assert carry_out(runtime, dry_run=True).found == []
    erasure = carry_out(runtime, similar=True)
    assert erasure.found is not None
    assert [(entry["job_id"], entry["found_by"]) for entry in erasure.found] == [(str(shared), ["similarity"])]
    assert traces(runtime, SECRET) == []
    with runtime.sessions() as session:
        assert session.scalars(select(StoredSpeaker.vector)).all() == [[0.0, 1.0]]


def later(runtime: FakeRuntime) -> None:
    """Steps that wait for a time wait no more."""
    with runtime.sessions.begin() as session:
        session.execute(update(Step).values(run_after=func.now()))


def in_work(tx: JobTransaction) -> None:
    tx.job.status = JobStatus.PROCESSING


def ended(tx: JobTransaction) -> None:
    tx.job.status = JobStatus.COMPLETED


def test_jobs_in_work_are_not_torn_apart_but_waited_for(runtime: FakeRuntime) -> None:
    enrol_ada(runtime)
    shared, other = conversation(runtime), conversation(runtime, RECORDINGS[1])
    change(runtime, shared, in_work)
    erasure_id = ask(runtime)
    assert run(erase.handler, runtime)
    assert job_of(runtime, other).audio_erased_at is not None, "nothing else waits"
    assert job_of(runtime, shared).audio_erased_at is None
    assert voice_of(runtime) is not None
    assert not run(erase.handler, runtime), "it looks again after a while"
    change(runtime, shared, ended)
    later(runtime)
    run_until_done(runtime, [erase.handler])
    (erasure,) = erasures(runtime, voice_id_of(runtime, erasure_id))
    assert erasure.erased_at is not None
    assert traces(runtime, ADA) == traces(runtime, SECRET) == []


def voice_id_of(runtime: FakeRuntime, erasure_id: uuid.UUID) -> str:
    with runtime.sessions() as session:
        return session.get_one(Erasure, erasure_id).subject


def test_who_may_yet_be_heard_is_waited_for(runtime: FakeRuntime) -> None:
    """A job is in work of which nobody knows yet who speaks in it."""
    enrol_ada(runtime)
    shared = conversation(runtime)
    with runtime.sessions.begin() as session:
        session.execute(delete(StoredTurn))
        speakers = session.scalars(select(StoredSpeaker)).all()
        for speaker in speakers:
            session.delete(speaker)
        session.execute(update(Job).where(Job.id == shared).values(status=JobStatus.PROCESSING, diarize=True))
    erasure_id = ask(runtime)
    run(erase.handler, runtime)
    assert job_of(runtime, erasure_id).status == JobStatus.PROCESSING
    with runtime.sessions.begin() as session:
        for speaker in speakers:
            session.merge(
                StoredSpeaker(
                    job_id=shared,
                    label=speaker.label,
                    name=speaker.name,
                    voice_id=speaker.voice_id,
                    vector=speaker.vector,
                )
            )
        session.execute(
            update(Job).where(Job.id == shared).values(status=JobStatus.COMPLETED, speakers_known=True)
        )
    later(runtime)
    run_until_done(runtime, [erase.handler])
    assert job_of(runtime, erasure_id).status == JobStatus.COMPLETED
    assert traces(runtime, ADA) == traces(runtime, SECRET) == []


def test_a_job_retried_meanwhile_is_not_deleted(runtime: FakeRuntime) -> None:
    enrol_ada(runtime)
    shared = conversation(runtime)
    change(runtime, shared, lambda tx: setattr(tx.job, "status", JobStatus.CANCELLED))
    ask(runtime)
    claimed = claim_one(runtime, StepKind.ERASE)

    class Lease:
        def check(self, claim: object) -> None:
            change(runtime, shared, in_work)

    with pytest.raises(Superseded):
        erase.handler.work([claimed], Work(runtime, Lease()))  # type: ignore[arg-type]
    assert job_of(runtime, shared).deleted_at is None


def test_a_person_is_certified_after_the_jobs_that_go_as_a_whole(runtime: FakeRuntime) -> None:
    enrol_ada(runtime)
    conversation(runtime, others=False)
    erasure_id = ask(runtime)
    run_until_done(runtime, [erase.handler])
    (erasure,) = erasures(runtime, voice_id_of(runtime, erasure_id))
    assert erasure.counts is not None
    assert erasure.erased_at is None
    run_until_done(runtime, [purge.handler])
    (erasure,) = erasures(runtime, voice_id_of(runtime, erasure_id))
    assert erasure.erased_at is not None


def test_a_recording_matched_meanwhile_is_erased_too(runtime: FakeRuntime) -> None:
    enrol_ada(runtime)
    conversation(runtime)
    ask(runtime)
    claimed = claim_one(runtime, StepKind.ERASE)
    (output,) = erase.handler.work([claimed], Work(runtime, _NoLease()))  # type: ignore[arg-type]
    late = conversation(runtime, RECORDINGS[1])
    commit_or_fail(erase.handler, runtime, claimed, output)
    assert voice_of(runtime) is not None
    run_until_done(runtime, [erase.handler])
    assert voice_of(runtime) is None
    assert job_of(runtime, late).audio_erased_at is not None
    assert traces(runtime, ADA) == traces(runtime, SECRET) == []


class _NoLease:
    def check(self, claim: object) -> None:
        pass
