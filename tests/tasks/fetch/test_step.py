"""The step: from an address to a job that goes on as if its recording had been uploaded."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from db import jobs
from db.models import Job, JobStatus, Step, StepKind, StepState
from db.objects.storage import Storage
from db.queue import retry
from db.queue.transaction import job_transaction
from db.session import Sessions
from db.settings import Settings
from db.sources import parse_source
from tasks.errors import Permanent
from tasks.fetch import folder as reading
from tasks.step import run
from tasks.steps import fetch
from tests.jobs import steps_of
from tests.tasks.fetch.server import Handler, WebServer, breaking, serving, trickling, whole
from tests.tasks.pipeline import MakeRuntime, event_types, job_of, recording, run_until_done
from tests.waiting import until


@pytest.fixture
def web() -> Iterator[WebServer]:
    with serving() as server:
        yield server


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    folder = tmp_path / "recordings"
    folder.mkdir()
    changes = {
        "fetch_private": ["127.0.0.0/8"],
        "local_folder": folder,
        "s3_source_buckets": ["given"],
    }
    return Settings.model_validate(settings.model_dump() | changes)


def make_job(sessions: Sessions, settings: Settings, address: str) -> uuid.UUID:
    """A job whose recording is to be fetched."""
    source = parse_source(address, settings)
    job = Job(
        id=uuid.uuid4(),
        tenant="default",
        filename=source.filename,
        bytes=0,
        sha256="",
        source_key="",
        source_url=source.address,
        options={},
    )
    with sessions.begin() as session:
        jobs.create(session, job, StepKind.FETCH)
    return job.id


def outcome(make_runtime: MakeRuntime, address: str, **changes: object) -> tuple[str | None, Job, int]:
    """Run the step until it needs no more running: the error, the job, and the attempts."""
    runtime = make_runtime(**changes)
    job_id = make_job(runtime.sessions, runtime.settings, address)
    run_until_done(runtime, [fetch.handler])
    job = job_of(runtime, job_id)
    return job.error_code, job, steps_of(runtime.sessions, job_id, StepKind.FETCH)[0].attempt


def test_a_recording_of_the_web_goes_on_like_an_upload(make_runtime: MakeRuntime, web: WebServer) -> None:
    runtime = make_runtime()
    body = recording()
    web.routes["/talks/ocean.flac"] = breaking(body, after=len(body) // 2 + 1)
    address = f"{web.url.replace('//', '//user:hunter2@')}/talks/ocean.flac?signature=hunter3"
    job_id = make_job(runtime.sessions, runtime.settings, address)
    run_until_done(runtime, [fetch.handler])
    job = job_of(runtime, job_id)
    assert (job.status, job.bytes, job.sha256) == (JobStatus.QUEUED, len(body), hashlib.sha256(body).hexdigest())
    assert steps_of(runtime.sessions, job_id, StepKind.INGEST)[0].state == StepState.READY
    assert runtime.storage.get(job.source_key) == body
    assert (job.filename, job.source_url) == ("ocean.flac", f"{web.url}/talks/ocean.flac")
    assert event_types(runtime, job_id) == ["job.queued"]


def test_a_server_that_comes_back(make_runtime: MakeRuntime, web: WebServer) -> None:
    answers: list[Callable[..., None]] = [lambda handler: handler.answer(503), whole(recording())]
    web.routes["/x.flac"] = lambda handler: answers.pop(0)(handler)
    code, job, attempts = outcome(make_runtime, f"{web.url}/x.flac")
    assert (code, job.bytes > 0, attempts) == (None, True, 2)


def test_a_server_that_does_not(make_runtime: MakeRuntime, web: WebServer) -> None:
    web.routes["/x.flac"] = lambda handler: handler.answer(503)
    code, job, attempts = outcome(make_runtime, f"{web.url}/x.flac")
    assert (code, job.status, attempts) == ("url_unreachable", JobStatus.FAILED, 3)
    assert len(web.asked) == 3


def test_a_failed_fetch_can_be_retried(make_runtime: MakeRuntime, web: WebServer) -> None:
    runtime = make_runtime()
    web.routes["/x.flac"] = lambda handler: handler.answer(404)
    job_id = make_job(runtime.sessions, runtime.settings, f"{web.url}/x.flac?signature=s")
    run_until_done(runtime, [fetch.handler])
    assert job_of(runtime, job_id).error_code == "url_not_found"
    web.routes["/x.flac"] = whole(recording())
    with job_transaction(runtime.sessions, job_id) as tx:
        retry.retry_job(tx)
    run_until_done(runtime, [fetch.handler])
    assert job_of(runtime, job_id).status == JobStatus.QUEUED
    assert steps_of(runtime.sessions, job_id, StepKind.INGEST)[0].state == StepState.READY
    assert set(web.paths) == {"/x.flac?signature=s"}


def test_what_is_refused_leaves_nothing_behind(
    make_runtime: MakeRuntime, web: WebServer, settings: Settings
) -> None:
    web.routes["/large"] = whole(bytes(20_000_000))
    web.routes["/empty"] = whole(b"")
    assert outcome(make_runtime, f"{web.url}/large", max_upload_bytes=10_000_000)[0] == "url_too_large"
    assert outcome(make_runtime, f"{web.url}/empty")[0] == "url_empty"
    code, _, attempts = outcome(make_runtime, f"{web.url}/empty", fetch_private=[])
    assert (code, attempts) == ("url_not_allowed", 1)
    storage = Storage(settings)
    assert list(storage.list("jobs/")) == []
    assert list(storage.stale_uploads(datetime.now(UTC) + timedelta(minutes=1))) == []


def test_a_cancelled_job_stops_its_fetch(make_runtime: MakeRuntime, web: WebServer) -> None:
    runtime = make_runtime(min_upload_rate=0)
    web.routes["/slow"] = trickling(0.02)
    job_id = make_job(runtime.sessions, runtime.settings, f"{web.url}/slow")

    def cancel_once_asked() -> None:
        until(lambda: web.asked)
        with job_transaction(runtime.sessions, job_id) as tx:
            tx.job.status = JobStatus.CANCELLED
            tx.skip_open_steps()

    threading.Thread(target=cancel_once_asked).start()
    assert len(run(fetch.handler, runtime)) == 1
    assert steps_of(runtime.sessions, job_id)[0].state == StepState.SKIPPED


def test_a_late_worker_overwrites_nothing(make_runtime: MakeRuntime, web: WebServer) -> None:
    """Its lease ran out while it was fetching; the file has changed since, and another worker has fetched it."""
    runtime, other = make_runtime(), make_runtime()
    job_id = make_job(runtime.sessions, runtime.settings, f"{web.url}/x.flac")

    def answer(handler: Handler) -> None:
        web.routes["/x.flac"] = whole(b"new")
        with runtime.sessions.begin() as session:
            session.execute(update(Step).values(state=StepState.READY, fence=None, lease_until=None))
        assert len(run(fetch.handler, other)) == 1
        handler.answer(200, b"old")

    web.routes["/x.flac"] = answer
    assert len(run(fetch.handler, runtime)) == 1
    job = job_of(runtime, job_id)
    assert (job.bytes, runtime.storage.get(job.source_key)) == (3, b"new")
    assert [key for key, _ in runtime.storage.list(f"jobs/{job_id}/")] == [job.source_key]


class TestFolder:
    @pytest.fixture
    def folder(self, settings: Settings) -> Path:
        assert settings.local_folder is not None
        (settings.local_folder / "inner").mkdir()
        (settings.local_folder / "inner" / "my talk.flac").write_bytes(b"sound")
        return settings.local_folder

    def test_files_below_it(self, make_runtime: MakeRuntime, folder: Path) -> None:
        (folder / "link.flac").symlink_to(folder / "inner" / "my talk.flac")
        for address in (
            f"{folder}/inner/my talk.flac",
            "inner/my talk.flac",
            f"file://{folder}/inner/my%20talk.flac",
            f"{folder}/inner/../link.flac",
        ):
            code, job, _ = outcome(make_runtime, address)
            assert (code, job.bytes) == (None, 5), address

    def test_nothing_outside_it(self, make_runtime: MakeRuntime, folder: Path, tmp_path: Path) -> None:
        outside = tmp_path / "secret.flac"
        outside.write_bytes(b"secret")
        (tmp_path / "recordings-of-others").mkdir()
        (tmp_path / "recordings-of-others" / "x").write_bytes(b"secret")
        (folder / "link").symlink_to(outside)
        (folder / "up").symlink_to("..")
        for address in (
            str(outside),
            "/etc/passwd",
            "../secret.flac",
            f"{folder}/../secret.flac",
            f"{folder}-of-others/x",
            "link",
            "up/secret.flac",
            f"file://{folder}/%2e%2e/secret.flac",
        ):
            code, job, attempts = outcome(make_runtime, address)
            assert (code, job.bytes, attempts) == ("url_not_allowed", 0, 1), address

    def test_what_is_no_file(self, make_runtime: MakeRuntime, folder: Path) -> None:
        os.mkfifo(folder / "pipe")
        (folder / "circle").symlink_to("circle")
        codes = {name: outcome(make_runtime, name)[0] for name in ("pipe", "inner", "circle", "nothing", ".")}
        assert codes == {
            "pipe": "url_refused",
            "inner": "url_refused",
            "circle": "url_refused",
            "nothing": "url_not_found",
            ".": "url_refused",
        }

    def test_a_link_put_there_in_a_race(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between looking at the path and opening it, a folder of it becomes a link that leads out."""
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "my talk.flac").write_bytes(b"secret")
        original = reading._open_below

        def swapped(root: Path, parts: tuple[str, ...]) -> int:
            (folder / "inner").rename(folder / "before")
            (folder / "inner").symlink_to(outside)
            return original(root, parts)

        monkeypatch.setattr(reading, "_open_below", swapped)
        with pytest.raises(Permanent) as caught:
            b"".join(reading.read_file(folder, "inner/my talk.flac"))
        assert caught.value.code == "url_refused"


class TestBuckets:
    def test_an_object_of_an_allowed_bucket(self, make_runtime: MakeRuntime, settings: Settings) -> None:
        client = Storage(settings).client
        client.create_bucket(Bucket="given")
        body = bytes(range(256)) * 70_000
        client.put_object(Bucket="given", Key="a/my talk.flac", Body=body)
        code, job, _ = outcome(make_runtime, "s3://given/a/my talk.flac")
        assert (code, job.sha256) == (None, hashlib.sha256(body).hexdigest())
        assert job.filename == "my talk.flac"
        assert outcome(make_runtime, "s3://given/a/other.flac")[0] == "url_not_found"
        assert outcome(make_runtime, "s3://given/a/my talk.flac", max_upload_bytes=1000)[0] == "url_too_large"
