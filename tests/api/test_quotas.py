"""Quotas and rates as a caller meets them: 429 with a code and Retry-After, headers, Redis away."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select

from api.access import counters, streams
from api.app import create_app
from api.dependencies import Services
from cli.stack.services import Redis
from db.access import quotas, tenants
from db.models import Job, UsageRecord
from db.objects.storage import Storage
from db.session import Sessions
from db.settings import Settings
from tests.api.conftest import serving
from tests.api.test_jobs import problem
from tests.api.test_limits import connect
from tests.jobs import make_job
from tests.waiting import LIMIT_SECONDS, until

KEYS = {"k1": "one", "k2": "two"}
ONE = {"Authorization": "Bearer k1"}
TWO = {"Authorization": "Bearer k2"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"api_keys": KEYS})


def allow(sessions: Sessions, tenant: str = "one", **limits: float | None) -> None:
    with sessions.begin() as session:
        tenants.change(session, tenant, limits)


def send(client: httpx.Client, headers: dict[str, str] = ONE, size: int = 1) -> httpx.Response:
    return client.post("/v1/jobs", files={"file": ("a.mp3", b"x" * size)}, headers=headers)


def refusal(answer: httpx.Response) -> tuple[int, str, int]:
    return answer.status_code, problem(answer)["code"], int(answer.headers["Retry-After"])


class TestUploads:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"max_uploads": 32, "tenant_jobs_at_once": 3})

    def test_sixteen_at_the_same_moment_make_no_more_jobs_than_allowed(
        self, client: httpx.Client, sessions: Sessions, settings: Settings
    ) -> None:
        """All pass the check before the body; one server of two gets each."""
        start, answers = threading.Barrier(16), []

        def run(to: httpx.Client) -> None:
            start.wait()
            answers.append(send(to))

        with serving(create_app(settings), settings) as second:
            threads = [threading.Thread(target=run, args=((client, second)[n % 2],)) for n in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert sorted(answer.status_code for answer in answers) == [202] * 3 + [429] * 13
        assert {refusal(answer) for answer in answers if answer.is_error} == {
            (429, "quota_jobs", quotas.JOBS_RETRY_SECONDS)
        }
        assert len(list(Storage(settings).list(""))) == 3, "what was refused is not kept"
        assert send(client, TWO).status_code == 202
        cancelled = next(answer for answer in answers if not answer.is_error).json()["id"]
        client.post(f"/v1/jobs/{cancelled}/cancel", headers=ONE)
        assert send(client).status_code == 202

    def test_a_retry_counts_as_a_job(self, client: httpx.Client, sessions: Sessions) -> None:
        first = send(client).json()["id"]
        client.post(f"/v1/jobs/{first}/cancel", headers=ONE)
        for _ in range(3):
            send(client)
        answer = client.post(f"/v1/jobs/{first}/retry", headers=ONE)
        assert refusal(answer)[:2] == (429, "quota_jobs")
        assert client.get(f"/v1/jobs/{first}", headers=ONE).json()["status"] == "cancelled"
        allow(sessions, jobs_at_once=4)
        assert client.post(f"/v1/jobs/{first}/retry", headers=ONE).status_code == 200

    def test_an_enrolment_counts_as_a_job(self, client: httpx.Client, sessions: Sessions) -> None:
        allow(sessions, jobs_at_once=1)

        def enrol(name: str) -> httpx.Response:
            return client.post("/v1/voices", data={"name": name}, files={"file": ("a.wav", b"x")}, headers=ONE)

        assert enrol("Ann").status_code == 202
        assert refusal(enrol("Bob"))[:2] == (429, "quota_jobs")
        assert [voice["name"] for voice in client.get("/v1/voices", headers=ONE).json()["data"]] == ["Ann"]

    def test_what_was_taken_is_answered_for_again(self, client: httpx.Client, sessions: Sessions) -> None:
        allow(sessions, jobs_at_once=1)
        keyed = ONE | {"Idempotency-Key": "a"}
        first = send(client, keyed)
        again = send(client, keyed)
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json()["id"] == again.json()["id"]

    def test_bytes_are_refused_before_they_are_sent(
        self, client: httpx.Client, sessions: Sessions, settings: Settings
    ) -> None:
        allow(sessions, stored_bytes=1000)
        assert send(client, size=900).status_code == 202
        with connect(client) as connection:
            connection.sendall(
                b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer k1\r\n"
                b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000000\r\n\r\n"
            )
            received = b""
            while not received.endswith(b"}"):
                received += connection.recv(4096)
        assert received.startswith(b"HTTP/1.1 429")
        assert b"quota_stored_bytes" in received
        assert refusal(send(client, size=101)) == (429, "quota_stored_bytes", quotas.BYTES_RETRY_SECONDS)
        assert len(list(Storage(settings).list(""))) == 1
        assert send(client, size=100).status_code == 202
        with sessions.begin() as session:
            job = session.scalars(select(Job).where(Job.bytes == 900)).one()
            job.audio_erased_at = func.now()
        assert send(client, size=900).status_code == 202, "what was erased leaves room"

    def test_hours_used_up_are_told_with_the_end_of_the_month(
        self, client: httpx.Client, sessions: Sessions
    ) -> None:
        allow(sessions, audio_hours_month=1)
        assert send(client).status_code == 202
        with sessions.begin() as session:
            job_id = session.scalars(select(Job.id)).one()
            session.add(UsageRecord(tenant="one", job_id=job_id, stage="upload", audio_seconds=3600))
        status, code, wait = refusal(send(client))
        assert (status, code) == (429, "quota_audio_hours")
        assert 0 < wait <= 31 * 86_400
        assert send(client, TWO).status_code == 202

    def test_a_tenant_has_slots_of_its_own_for_uploads(self, client: httpx.Client, sessions: Sessions) -> None:
        allow(sessions, uploads_at_once=0)

        def refused_for_slots() -> bool:
            # until the limit is known, jobs are made, or refused for being too many
            answer = send(client)
            return answer.status_code == 429 and refusal(answer)[1] == "too_many_uploads"

        until(refused_for_slots, "the limit is known", seconds=10)
        assert send(client, TWO).status_code == 202


class TestRates:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"tenant_requests_per_minute": 5})

    def test_requests_of_all_processes_count_together(
        self, client: httpx.Client, sessions: Sessions, settings: Settings
    ) -> None:
        allow(sessions, "two", requests_per_minute=100)
        with serving(create_app(settings), settings) as second:
            until(lambda: second.get("/v1/jobs", headers=TWO).headers["RateLimit-Limit"] == "100", seconds=10)
            answers = [to.get("/v1/jobs", headers=ONE) for to in (client, second, client, second, client)]
            seen = [int(answer.headers["RateLimit-Remaining"]) for answer in answers]
            assert [answer.status_code for answer in answers] == [200] * 5
            assert seen == [4, 3, 2, 1, 0]
            assert answers[0].headers["RateLimit-Limit"] == "5"
            assert answers[0].headers["RateLimit-Policy"] == "5;w=60"
            for to, path in ((client, "/v1/jobs"), (second, "/v1/jobs/nothing")):
                answer = to.get(path, headers=ONE)
                status, code, wait = refusal(answer)
                assert (status, code) == (429, "quota_requests")
                assert 0 < wait <= 60
                assert answer.headers["RateLimit-Remaining"] == "0"
                assert int(answer.headers["RateLimit-Reset"]) == wait
            assert refusal(send(second))[:2] == (429, "quota_requests")
            assert second.get("/v1/jobs", headers=TWO).status_code == 200
            assert client.get("/healthz").status_code == 200

    def test_every_answer_of_a_limited_tenant_says_how_it_stands(self, client: httpx.Client) -> None:
        paths = ("/v1/jobs", "/v1/jobs/nothing", "/v1/jobs?limit=0", "/v1/nowhere")
        answers = [client.get(path, headers=ONE) for path in paths]
        assert [answer.status_code for answer in answers] == [200, 404, 422, 404]
        assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["4", "3", "2", "1"]
        assert "RateLimit-Limit" not in client.get("/v1/jobs").headers

    def test_nobody_is_limited_who_has_no_limit(self, client: httpx.Client, sessions: Sessions) -> None:
        allow(sessions, "two", requests_per_minute=0)
        until(lambda: client.get("/v1/jobs", headers=TWO).status_code == 429, "the limit is known", seconds=10)


@contextmanager
def hanging() -> Iterator[str]:
    """The URL of a Redis that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as silent:
        yield f"redis://127.0.0.1:{silent.getsockname()[1]}/0"


@contextmanager
def stopped() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    yield f"redis://127.0.0.1:{port}/0"


class TestWithoutRedis:
    @pytest.fixture(params=[hanging, stopped])
    def settings(self, settings: Settings, request: pytest.FixtureRequest) -> Iterator[Settings]:
        limits = {"tenant_requests_per_minute": 2, "tenant_event_streams": 1}
        with request.param() as url:
            yield settings.model_copy(update={**limits, "redis_url": url})

    def test_reads_pass_uploads_do_not_and_nobody_waits_long(
        self, client: httpx.Client, sessions: Sessions, settings: Settings
    ) -> None:
        started = time.monotonic()
        reads = [client.get("/v1/jobs", headers=ONE) for _ in range(20)]
        assert {answer.status_code for answer in reads} == {200}
        assert "RateLimit-Limit" not in reads[-1].headers
        answer = send(client)
        assert refusal(answer) == (503, "quota_unknown", 5)
        assert list(Storage(settings).list("")) == []
        # one request in two seconds asks Redis; the others do not wait for it
        asked = 1 + (time.monotonic() - started) / counters.PAUSE_SECONDS
        slowest = sorted(answer.elapsed.total_seconds() for answer in [*reads, answer])
        assert slowest[-1] < 2 * counters.TIMEOUT_SECONDS + 1
        assert sum(seconds > counters.TIMEOUT_SECONDS / 2 for seconds in slowest) <= asked + 1
        job_id = make_job(sessions, tenant="one")
        with ExitStack() as stack:
            for _ in range(2):
                stream = stack.enter_context(
                    client.stream("GET", f"/v1/jobs/{job_id}/events", headers=ONE, timeout=LIMIT_SECONDS)
                )
                assert stream.status_code == 200

    def test_who_has_no_limit_does_not_need_redis(self, client: httpx.Client, settings: Settings) -> None:
        unlimited = settings.model_copy(update={"tenant_requests_per_minute": None})
        with serving(create_app(unlimited), unlimited) as free:
            assert send(free).status_code == 202


class TestRedisComesAndGoes:
    @pytest.fixture
    def settings(self, settings: Settings, tmp_path: Path) -> Iterator[Settings]:
        self.redis = Redis(tmp_path / "redis-of-its-own")
        self.redis.start()
        try:
            url = self.redis.env["LONGHAND_REDIS_URL"]
            yield settings.model_copy(update={"tenant_requests_per_minute": 1000, "redis_url": url})
        finally:
            self.redis.stop()

    def test_uploads_go_on_when_redis_does(self, client: httpx.Client, settings: Settings) -> None:
        assert send(client).status_code == 202
        pid = self.redis.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            assert refusal(send(client))[:2] == (503, "quota_unknown")
            others = [client.get("/healthz").elapsed.total_seconds() for _ in range(5)]
            assert max(others) < counters.TIMEOUT_SECONDS, "the event loop goes on"
            assert client.get("/v1/jobs", headers=ONE).status_code == 200
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: send(client).status_code == 202, "uploads are taken again", seconds=30)
        assert "RateLimit-Limit" in client.get("/v1/jobs", headers=ONE).headers


class TestStreams:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"tenant_event_streams": 2, "heartbeat_seconds": 0.2})

    @contextmanager
    def stream(
        self, client: httpx.Client, job_id: object, headers: dict[str, str] = ONE
    ) -> Iterator[httpx.Response]:
        with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as opened:
            yield opened

    def status(self, client: httpx.Client, job_id: object, headers: dict[str, str] = ONE) -> int:
        with self.stream(client, job_id, headers) as opened:
            return opened.status_code

    def test_streams_of_all_processes_count_together(
        self, client: httpx.Client, sessions: Sessions, settings: Settings
    ) -> None:
        job_id, other = make_job(sessions, tenant="one"), make_job(sessions, tenant="two")
        with serving(create_app(settings), settings) as second:
            with self.stream(client, job_id), self.stream(second, job_id):
                for to in (client, second):
                    with self.stream(to, job_id) as refused:
                        refused.read()
                        assert refusal(refused) == (429, "quota_event_streams", streams.RETRY_AFTER)
                assert self.status(client, other, TWO) == 200
                used = client.get("/v1/quotas", headers=ONE).json()["quotas"]["event_streams"]
                assert used == {"limit": 2, "used": 2, "own": False}
            until(lambda: self.status(second, job_id) == 200, "a closed stream leaves its place")

    def test_streams_of_a_process_that_died_vanish(
        self, sessions: Sessions, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(streams, "LEASE_SECONDS", 2)
        monkeypatch.setattr(streams, "RENEW_SECONDS", 0.3)
        job_id = make_job(sessions, tenant="one")
        dying, living = create_app(settings), create_app(settings)
        with serving(dying, settings) as first, serving(living, settings) as second, ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(self.stream(first, job_id))
            services: Services = dying.state.services
            renewals = services.streams._task
            assert renewals is not None
            opened = time.monotonic()
            while time.monotonic() < opened + 3:
                assert self.status(second, job_id) == 429, "they are renewed while their process lives"
                time.sleep(0.1)
            renewals.get_loop().call_soon_threadsafe(renewals.cancel)
            until(lambda: self.status(second, job_id) == 200, "nobody renews them", seconds=30)


def test_a_fresh_server_limits_nobody(client: httpx.Client) -> None:
    shown = client.get("/v1/quotas", headers=ONE).json()
    limited = {name for name, quota in shown["quotas"].items() if quota["limit"] is not None}
    assert limited == {"uploads_at_once"}
    assert "RateLimit-Limit" not in client.get("/v1/jobs", headers=ONE).headers
    assert send(client).status_code == 202
