"""Jobs by the address of their recording, over ``/v1/jobs`` and in the older shape of ``/api/transcribe``."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import select

from api.app import create_app
from db.models import AuditEntry, Job, JobStatus, StepKind
from db.session import Sessions
from db.settings import Settings
from speech.audio import flac
from tasks.steps import fetch
from tests.api.conftest import serving
from tests.api.test_jobs import problem
from tests.jobs import steps_of
from tests.tasks.fakes import FakeRuntime
from tests.tasks.fetch.server import WebServer, whole
from tests.tasks.fetch.server import serving as serving_web
from tests.tasks.pipeline import HANDLERS, recording, run_until_done
from tests.waiting import until

SECRET = "//user:hunter2@"
SILENCE = flac.encode(np.zeros(16_000, np.float32))
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def web() -> Iterator[WebServer]:
    with serving_web() as server:
        server.routes["/talk.flac"] = whole(recording())
        server.routes["/silence.flac"] = whole(SILENCE)
        yield server


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    changes: dict[str, Any] = {"fetch_private": ["127.0.0.0/8"], "local_folder": tmp_path / "recordings"}
    changes |= {"diarize": False, "retry_seconds": 0.001}
    (tmp_path / "recordings").mkdir()
    return Settings.model_validate(settings.model_dump() | changes)


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    with serving(create_app(settings), settings) as opened:
        yield opened


def work_off(settings: Settings) -> None:
    """Run every step that is ready, as workers would."""
    runtime = FakeRuntime(settings, lambda _: "we met on monday", lambda _: "we met on Monday")
    run_until_done(runtime, [fetch.handler, *HANDLERS])


def all_jobs(sessions: Sessions) -> list[Job]:
    with sessions() as session:
        return list(session.scalars(select(Job)))


def made_after(sessions: Sessions, before: int) -> bool:
    return len(all_jobs(sessions)) > before


def only_job(sessions: Sessions) -> Job | None:
    with sessions() as session:
        return session.scalars(select(Job)).one_or_none()


class TestJobs:
    def test_from_an_address_to_its_transcript(
        self, client: httpx.Client, settings: Settings, web: WebServer
    ) -> None:
        address = f"{web.url.replace('//', SECRET)}/talk.flac?signature=hunter3"
        made = client.post(
            "/v1/jobs", json={"audio_url": address, "options": {"language": "en", "source": "news"}}
        )
        assert made.status_code == 202
        job = made.json()
        assert made.headers["Location"] == f"/v1/jobs/{job['id']}"
        assert (job["status"], job["language"], job["options"]["source"]) == ("queued", "en", "news")
        assert job["audio"] == {
            "filename": "talk.flac",
            "bytes": None,
            "sha256": None,
            "duration": None,
            "sample_rate": None,
            "channels": None,
            "source_url": f"{web.url}/talk.flac",
            "erased_at": None,
        }
        early = client.get(f"/v1/jobs/{job['id']}/audio")
        assert (early.status_code, problem(early)["code"]) == (409, "audio_not_fetched")
        work_off(settings)
        done = client.get(f"/v1/jobs/{job['id']}").json()
        assert (done["status"], done["audio"]["bytes"]) == ("completed", len(recording()))
        seen = made.text + str(done) + client.get(f"/v1/jobs/{job['id']}/events").text
        assert "hunter" not in seen
        assert httpx.get(client.get(f"/v1/jobs/{job['id']}/audio").headers["Location"]).content == recording()

    def test_bad_requests(self, client: httpx.Client, sessions: Sessions) -> None:
        fine = "https://a.example/x"
        bodies: list[Any] = [{}, [], {"audio_url": 3}, {"audio_url": fine, "extra": 1}]
        bodies.append({"audio_url": fine, "options": {"speakers": 0}})
        for body in bodies:
            answer = client.post("/v1/jobs", json=body)
            assert (answer.status_code, problem(answer)["code"]) == (422, "invalid_request")
        for address in ("ftp://a.example/x", "/etc/passwd", "file:///etc/passwd", "s3://any/x", "https://"):
            answer = client.post("/v1/jobs", json={"audio_url": address})
            assert (answer.status_code, problem(answer)["code"]) == (422, "url_not_allowed")
        assert only_job(sessions) is None

    def test_json_that_is_none_and_json_without_end(self, client: httpx.Client) -> None:
        assert client.post("/v1/jobs", content=b"{", headers=JSON).status_code == 422
        large = client.post("/v1/jobs", content=b'"' + b"x" * 300_000 + b'"', headers=JSON)
        assert (large.status_code, problem(large)["code"]) == (413, "body_too_large")

    def test_the_same_request_makes_one_job(
        self, client: httpx.Client, settings: Settings, web: WebServer
    ) -> None:
        def post(address: str) -> httpx.Response:
            return client.post("/v1/jobs", json={"audio_url": address}, headers={"Idempotency-Key": "k"})

        first = post(f"{web.url}/silence.flac?id=1").json()["id"]
        assert post(f"{web.url}/silence.flac?id=1").json()["id"] == first
        other = post(f"{web.url}/silence.flac?id=2")
        assert (other.status_code, problem(other)["code"]) == (422, "idempotency_key_reused")
        work_off(settings)
        assert post(f"{web.url}/silence.flac?id=1").json()["id"] == first
        assert post(f"{web.url}/silence.flac?id=2").status_code == 422

    def test_a_job_that_is_deleted_before_it_is_fetched(
        self, client: httpx.Client, sessions: Sessions, web: WebServer, settings: Settings
    ) -> None:
        job = client.post("/v1/jobs", json={"audio_url": f"{web.url}/silence.flac"}).json()["id"]
        assert client.delete(f"/v1/jobs/{job}").status_code == 204
        work_off(settings)
        assert web.asked == []


@contextmanager
def asking(client: httpx.Client, body: Any, **headers: str) -> Iterator[Future[httpx.Response]]:
    """A request of the older shape, which waits in a thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(client.post, "/api/transcribe", json=body, headers=headers)


class TestTranscribe:
    def test_an_address_in_a_text_out(
        self, client: httpx.Client, sessions: Sessions, settings: Settings, web: WebServer
    ) -> None:
        with asking(client, {"file_path": f"{web.url}/talk.flac", "language": "en"}) as waiting:
            until(lambda: only_job(sessions))
            work_off(settings)
            answer = waiting.result()
        assert answer.status_code == 200
        text = answer.json()
        assert set(text) == {"text"}
        assert text["text"].startswith("we met on Monday")
        job = only_job(sessions)
        assert job is not None
        assert answer.headers["Location"] == f"/v1/jobs/{job.id}"
        assert job.options["language"] == "en"
        with sessions() as session:
            entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "POST /api/transcribe")).one()
        assert (entry.target, entry.status) == (str(job.id), 200)

    def test_a_file_of_the_folder(self, client: httpx.Client, sessions: Sessions, settings: Settings) -> None:
        assert settings.local_folder is not None
        (settings.local_folder / "silence.flac").write_bytes(SILENCE)
        with asking(client, {"file_path": str(settings.local_folder / "silence.flac")}) as waiting:
            until(lambda: only_job(sessions))
            work_off(settings)
            assert waiting.result().json() == {"text": ""}

    def test_without_redis(self, sessions: Sessions, settings: Settings, web: WebServer) -> None:
        without = settings.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"})
        with (
            serving(create_app(without), without) as client,
            asking(client, {"file_path": f"{web.url}/silence.flac"}) as waiting,
        ):
            until(lambda: only_job(sessions))
            work_off(without)
            assert waiting.result().status_code == 200

    def test_jobs_that_fail(
        self, client: httpx.Client, sessions: Sessions, settings: Settings, web: WebServer
    ) -> None:
        web.routes["/gone"] = lambda handler: handler.answer(404)
        web.routes["/down"] = lambda handler: handler.answer(503)
        web.routes["/noise"] = whole(b"no audio at all")
        expected = {
            "/gone": (422, "url_not_found"),
            "/noise": (422, "audio_unreadable"),
            "/down": (502, "url_unreachable"),
        }
        for path in expected:
            before = len(all_jobs(sessions))
            with asking(client, {"file_path": f"{web.url}{path}"}) as waiting:
                until(partial(made_after, sessions, before))
                work_off(settings)
                answer = waiting.result()
            found = problem(answer)
            assert (answer.status_code, found["code"]) == expected[path]
            assert answer.headers["Location"] == f"/v1/jobs/{found['job_id']}"

    def test_bad_requests(self, client: httpx.Client, sessions: Sessions) -> None:
        for body, code in (
            ({}, "invalid_request"),
            ({"file_path": "/x", "no_such_option": 1}, "invalid_options"),
            ({"file_path": "/x", "speakers": -1}, "invalid_options"),
            ({"file_path": "s3://any/x"}, "url_not_allowed"),
        ):
            answer = client.post("/api/transcribe", json=body)
            assert (answer.status_code, problem(answer)["code"]) == (422, code)
        assert only_job(sessions) is None

    def test_a_job_that_takes_longer_goes_on(self, sessions: Sessions, settings: Settings, web: WebServer) -> None:
        hasty = settings.model_copy(update={"transcribe_seconds": 0.1})
        with serving(create_app(hasty), hasty) as client:
            answer = client.post("/api/transcribe", json={"file_path": f"{web.url}/silence.flac"})
            found = problem(answer)
            assert (answer.status_code, found["code"]) == (504, "transcript_not_ready")
            work_off(settings)
            job = client.get(answer.headers["Location"]).json()
        assert (job["id"], job["status"]) == (found["job_id"], "completed")

    def test_who_hangs_up_ends_the_job(self, client: httpx.Client, sessions: Sessions, web: WebServer) -> None:
        with pytest.raises(httpx.ReadTimeout):
            client.post("/api/transcribe", json={"file_path": f"{web.url}/silence.flac"}, timeout=0.3)
        until(lambda: (job := only_job(sessions)) and job.status == JobStatus.CANCELLED, seconds=20)

    def test_who_can_come_back_does_not(
        self, client: httpx.Client, sessions: Sessions, settings: Settings, web: WebServer
    ) -> None:
        body = {"file_path": f"{web.url}/silence.flac"}
        with pytest.raises(httpx.ReadTimeout):
            client.post("/api/transcribe", json=body, timeout=0.3, headers={"Idempotency-Key": "k"})
        until(lambda: only_job(sessions))
        with asking(client, body, **{"Idempotency-Key": "k"}) as waiting:
            work_off(settings)
            assert waiting.result().status_code == 200
        again = client.post("/api/transcribe", json=body, headers={"Idempotency-Key": "k"})
        assert again.json() == {"text": ""}
        assert only_job(sessions) is not None

    def test_a_hundred_wait_without_a_thread_each(
        self, client: httpx.Client, sessions: Sessions, settings: Settings, web: WebServer
    ) -> None:
        answers: list[int] = []

        async def ask_all() -> None:
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(base_url=client.base_url, timeout=120, limits=limits) as many:
                body, headers = {"file_path": f"{web.url}/silence.flac"}, {"Idempotency-Key": "k"}
                asked = (many.post("/api/transcribe", json=body, headers=headers) for _ in range(100))
                answers.extend(answer.status_code for answer in await asyncio.gather(*asked))

        asking_all = threading.Thread(target=asyncio.run, args=(ask_all(),))
        asking_all.start()
        job = until(lambda: only_job(sessions))
        # what takes a thread still finds one
        assert client.get(f"/v1/jobs/{job.id}").json()["status"] == "queued"
        work_off(settings)
        asking_all.join()
        assert answers == [200] * 100
        assert len(steps_of(sessions, job.id, StepKind.FETCH)) == 1


def test_both_ask_who_calls(settings: Settings) -> None:
    keyed = settings.model_copy(update={"api_keys": {"k1": "one"}})
    with serving(create_app(keyed), keyed) as client:
        call: Callable[..., httpx.Response]
        for call, path in ((client.get, "/api/health"), (client.post, "/api/transcribe")):
            answer = call(path)
            assert (answer.status_code, problem(answer)["code"]) == (401, "unauthorized")
        assert client.get("/api/health", headers={"Authorization": "Bearer k1"}).json() == {"ok": True}
