"""A backup under load: what it restores has every object that its rows name, and goes on with its work."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine, func, make_url, select, text

from db import backup, uploads
from db.models import Job, JobStatus, Step, StepKind, StepState, Upload, UploadPart
from db.objects import removal
from db.objects.storage import ObjectEntry, ObjectMissing, Storage
from db.prepare import alembic_config, prepare
from db.queue.transaction import job_transaction
from db.search import meanings
from db.session import Sessions, make_sessions
from db.settings import Settings
from tasks.maintenance.sweep import sweep
from tasks.step import run
from tasks.steps import fetch, purge
from tests.jobs import make_job, steps_of
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import HANDLERS, MakeRuntime, job_of, recording, run_until_done, submit
from tests.waiting import until

ALL = (fetch.handler, *HANDLERS, purge.handler)


@contextmanager
def empty(settings: Settings) -> Iterator[Settings]:
    """A database without even a schema, and no bucket: what is left after everything was wiped."""
    name = f"restored_{uuid.uuid4().hex[:12]}"
    url = make_url(settings.database_url)
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
        try:
            yield settings.model_copy(
                update={
                    "database_url": url.set(database=name).render_as_string(hide_password=False),
                    "s3_bucket": name.replace("_", "-"),
                }
            )
        finally:
            connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    engine.dispose()


def submit_pieces(runtime: FakeRuntime, body: bytes) -> uuid.UUID:
    """A job whose recording was uploaded in two pieces, which are removed once they are put together."""
    job_id = uuid.uuid4()
    half = len(body) // 2
    with runtime.sessions.begin() as session:
        upload = Upload(
            id=job_id,
            tenant="default",
            filename="talk.flac",
            bytes=len(body),
            received=len(body),
            expires_at=func.now() + timedelta(hours=1),
            completed_at=func.now(),
            used_at=func.now(),
        )
        session.add(upload)
        session.flush()
        for start, piece in ((0, body[:half]), (half, body[half:])):
            key = uploads.new_key(job_id)
            runtime.storage.put(key, piece, "application/octet-stream")
            session.add(UploadPart(key=key, upload_id=job_id, start=start, bytes=len(piece)))
    make_job(runtime.sessions, id=job_id, bytes=len(body))
    with runtime.sessions.begin() as session:
        session.execute(text("UPDATE steps SET kind = 'fetch' WHERE job_id = :job"), {"job": job_id})
    return job_id


def delete(runtime: FakeRuntime, job_id: uuid.UUID) -> None:
    with job_transaction(runtime.sessions, job_id) as tx:
        tx.job.deleted_at = func.now()
        tx.enqueue(StepKind.PURGE)


def test_what_is_saved_under_load_is_whole_and_goes_on(
    make_runtime: MakeRuntime, settings: Settings, tmp_path: Path
) -> None:
    runtime, over, body = make_runtime(), threading.Event(), recording("jfk.flac")
    meanings.create(settings.database_url)
    failures: list[BaseException] = []

    def work() -> None:
        """Recordings come, whole and in pieces, are worked on, and some are deleted."""
        try:
            for number in itertools.count():
                if over.is_set():
                    return
                job_id = submit_pieces(runtime, body) if number % 2 else submit(runtime, body)
                run_until_done(runtime, ALL if number % 3 else HANDLERS[:2])
                if number % 4 == 0:
                    delete(runtime, job_id)
        except BaseException as error:
            failures.append(error)
            raise

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        until(lambda: finished(runtime) >= 2, "some jobs are done")
        for _ in range(3):
            backup.save(settings, tmp_path / "saved")
        before = finished(runtime)
        backup.save(settings, tmp_path / "saved")
    finally:
        over.set()
        worker.join()
    assert not failures
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {backup.DUMP, backup.OBJECTS}
    with empty(settings) as fresh:
        restored = backup.restore(fresh, tmp_path / "saved")
        assert restored.missing == []
        assert restored.objects > 0
        again = FakeRuntime(
            fresh.model_copy(update={"retry_seconds": 0.001, "models_dir": settings.models_dir}),
            lambda _: "we met on monday",
            lambda _: "we met on Monday",
        )
        with again.sessions.begin() as session:
            # of workers that are gone
            session.execute(text("UPDATE steps SET state = 'ready', lease_until = NULL WHERE state = 'leased'"))
        run_until_done(again, ALL)
        with again.sessions() as session:
            assert not meanings.are_kept(session), "a server without pgvector takes the backup, too"
            states = session.scalars(select(Job.status).where(Job.deleted_at.is_(None))).all()
            dead = session.scalar(select(func.count(Step.id)).where(Step.state == StepState.DEAD))
        assert len(states) >= before - 1
        assert (set(states), dead) == ({JobStatus.COMPLETED}, 0)
        assert backup.missing(again.sessions, again.storage) == []
        with pytest.raises(backup.BackupError, match="jobs already"):
            backup.restore(fresh, tmp_path / "saved")
        again.sessions.kw["bind"].dispose()


def finished(runtime: FakeRuntime) -> int:
    completed = select(func.count(Job.id)).where(Job.status == JobStatus.COMPLETED, Job.deleted_at.is_(None))
    with runtime.sessions() as session:
        return session.scalar(completed) or 0


def test_nothing_that_rows_named_is_removed_while_it_is_copied(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    kept, pieces = submit(runtime, recording("jfk.flac")), submit_pieces(runtime, recording("jfk.flac"))
    run_until_done(runtime)
    delete(runtime, kept)
    with removal.hold(runtime.sessions):
        run_until_done(runtime, [fetch.handler, *HANDLERS])
        for _ in range(2):
            run(purge.handler, runtime)
        uploads.discard(runtime.sessions, runtime.storage, [f"jobs/{kept}/source"])
        sweep(runtime, timedelta(0), timedelta(0))
        keys = {entry.key for entry in runtime.storage.entries("jobs/")}
        assert f"jobs/{kept}/source" in keys
        assert sum(uploads.is_piece(key) for key in keys) == 2
        (step,) = steps_of(runtime.sessions, kept, StepKind.PURGE)
        # it costs no attempt, and is tried again soon
        assert (step.state, step.attempt) == (StepState.READY, 0)
        assert step.run_after is not None
    with runtime.sessions.begin() as session:
        session.execute(text("UPDATE steps SET run_after = now() WHERE kind = 'purge'"))
    run(purge.handler, runtime)
    sweep(runtime, timedelta(0), timedelta(0))
    keys = {entry.key for entry in runtime.storage.entries("jobs/")}
    assert not [key for key in keys if str(kept) in key or uploads.is_piece(key)]
    assert job_of(runtime, pieces).status == JobStatus.COMPLETED


def test_a_backup_whose_hold_was_lost_is_none(
    make_runtime: MakeRuntime, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime()
    submit(runtime, recording("jfk.flac"))
    backup.save(settings, tmp_path)
    dump = (tmp_path / backup.DUMP).read_bytes()
    whole = backup._copy_objects

    def losing(*arguments: object) -> object:
        with runtime.sessions.begin() as session:
            session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = :lock"
                ),
                {"lock": removal.LOCK},
            )
        return whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(backup, "_copy_objects", losing)
    with pytest.raises(backup.BackupError, match="connection"):
        backup.save(settings, tmp_path)
    # that of before is still there
    assert (tmp_path / backup.DUMP).read_bytes() == dump


def test_a_backup_of_an_older_schema_takes_the_place_of_a_newer_one(
    settings: Settings, sessions: Sessions, tmp_path: Path
) -> None:
    """Tables that the dump does not know refer to those that it does."""
    job_id = make_job(sessions)
    command.downgrade(alembic_config(settings.database_url), "0017")
    backup.save(settings, tmp_path)
    with empty(settings) as fresh:
        prepare(fresh)
        backup.restore(fresh, tmp_path)
        restored = make_sessions(fresh, name="test")
        with restored() as session:
            assert session.get(Job, job_id) is not None
        restored.kw["bind"].dispose()


def test_what_is_missing_is_named(make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = make_runtime()
    first, second, third = (submit(runtime, recording("jfk.flac")) for _ in range(3))
    waiting = submit_pieces(runtime, recording("jfk.flac"))
    run_until_done(runtime)
    entries = Storage.entries

    def listed_before(storage: Storage, prefix: str) -> Iterator[ObjectEntry]:
        return iter(()) if prefix == "jobs/" else entries(storage, prefix)

    with monkeypatch.context() as patched:
        patched.setattr(Storage, "entries", listed_before)
        # what was written since is there
        assert backup.missing(runtime.sessions, runtime.storage) == []
    prefix = job_of(runtime, second).transcript_prefix
    assert prefix is not None
    runtime.storage.delete([f"jobs/{first}/source"])
    runtime.storage.delete(entry.key for entry in runtime.storage.entries(prefix))
    runtime.storage.delete(entry.key for entry in runtime.storage.entries(f"jobs/{third}/"))
    piece = next(entry.key for entry in runtime.storage.entries(uploads.parts_prefix(waiting)))
    runtime.storage.delete([piece])
    # what is erased is not missing
    delete(runtime, third)
    assert {f"jobs/{first}/source", prefix, piece} <= set(backup.missing(runtime.sessions, runtime.storage))
    assert not [key for key in backup.missing(runtime.sessions, runtime.storage) if str(third) in key]


def test_an_object_that_goes_while_it_is_copied_was_named_by_nothing(
    make_runtime: MakeRuntime, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime()
    runtime.storage.put("jobs/gone", b"?", "text/plain")
    runtime.storage.put("jobs/kept", b"?", "text/plain")

    def download(storage: object, key: str, file: Path) -> None:
        if key == "jobs/gone":
            raise ObjectMissing(key)
        file.write_bytes(b"?")

    monkeypatch.setattr("db.objects.storage.Storage.download", download)
    assert backup.save(settings, tmp_path) == 1
