"""Hostile callers: bodies, heads and numbers of absurd size, other people's keys and shares, and slow lines."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from api.guard import MAX_BODY_BYTES
from db.models import Job
from db.objects.storage import Storage
from db.session import Sessions
from db.settings import ApiKey, Settings
from tasks.maintenance import retention
from tests.api.test_jobs import problem, upload
from tests.api.test_limits import connect
from tests.jobs import make_job
from tests.tasks.fakes import FakeRuntime
from tests.waiting import LIMIT_SECONDS

ONE = {"Authorization": "Bearer k1"}
TWO = {"Authorization": "Bearer k2"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"stall_seconds": 1.0})


class TestBodies:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"api_keys": {"k1": "one"}})

    def test_no_key_is_refused_before_the_body_is_read(self, client: httpx.Client) -> None:
        """Of 300 MB without a key, hardly any is taken, and none kept."""
        taken = 0

        def endless() -> Iterator[bytes]:
            nonlocal taken
            for _ in range(300):
                taken += 1
                yield bytes(1024 * 1024)

        before = psutil.Process(os.getpid()).memory_info().rss
        path = f"/v1/jobs/{uuid.uuid4()}/segments/0"
        with contextlib.suppress(httpx.WriteError, httpx.ReadError):
            assert client.patch(path, content=endless()).status_code == 401
        assert taken < 20
        assert psutil.Process(os.getpid()).memory_info().rss - before < 50e6

    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_body_that_is_no_upload_is_capped(self, client: httpx.Client, chunked: bool) -> None:
        body = bytes(MAX_BODY_BYTES + 1)
        path = f"/v1/jobs/{uuid.uuid4()}/segments/0"
        answer = client.patch(path, content=iter([body]) if chunked else body, headers=ONE)
        assert (answer.status_code, problem(answer)["code"]) == (413, "body_too_large")
        small = client.patch(path, content=b" " * (MAX_BODY_BYTES - 100), headers=ONE)
        assert small.status_code == 422


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Half: ",
        b"PATCH /v1/jobs/x/segments/0 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{",
    ],
    ids=["nothing", "half a head", "half a body"],
)
def test_what_stays_half_sent_is_closed(client: httpx.Client, sent: bytes) -> None:
    with connect(client) as connection:
        connection.sendall(sent)
        started = time.monotonic()
        while connection.recv(4096):
            pass
    assert time.monotonic() - started < LIMIT_SECONDS / 4


def test_a_head_that_trickles_in_is_closed(client: httpx.Client) -> None:
    with connect(client) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        closed = threading.Event()

        def trickle() -> None:
            with contextlib.suppress(OSError):
                while not closed.wait(0.1):
                    connection.sendall(b"x")

        feeder = threading.Thread(target=trickle)
        feeder.start()
        with contextlib.suppress(ConnectionError):
            while connection.recv(4096):
                pass
        closed.set()
        feeder.join()


ABSURD_OPTIONS: list[Any] = [
    {"retain_days": 1e12},
    {"retain_days": -1},
    {"degrade_after": 1e300},
    {"language": []},
    {"language": {}},
    {"hotwords": "a\x00b"},
    {"speakers": 10**30},
]


@pytest.mark.parametrize("options", [*map(json.dumps, ABSURD_OPTIONS), '{"retain_days": 1e999}', "[" * 30_000])
def test_absurd_options_are_refused_and_nothing_is_stored(
    client: httpx.Client, settings: Settings, options: str
) -> None:
    answer = client.post("/v1/jobs", data={"options": options}, files={"file": ("a.mp3", b"x" * 1000)})
    assert (answer.status_code, problem(answer)["code"]) == (422, "invalid_options")
    assert client.get("/v1/jobs").json()["data"] == []
    assert list(Storage(settings).list("")) == []


def test_a_mistake_in_the_options_is_told_before_the_file_is_sent(client: httpx.Client) -> None:
    head = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        b"Content-Length: 1000000000\r\n\r\n--b\r\nContent-Disposition: form-data; name=retain_days\r\n\r\ninf\r\n"
        b"--b\r\nContent-Disposition: form-data; name=file; filename=x\r\n\r\n"
    )
    with connect(client) as connection:
        connection.sendall(head)
        assert connection.recv(4096).startswith(b"HTTP/1.1 422")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/v1/jobs/{job}/segments/99999999999999999999"),
        ("PATCH", "/v1/jobs/{job}/segments/-1"),
        ("GET", "/v1/jobs/{job}/events?after=" + "9" * 20),
        ("GET", "/v1/jobs/{job}/events?after=" + "9" * 5000),
        ("GET", "/v1/jobs?limit=" + "9" * 30),
        ("GET", "/v1/jobs?cursor=%00"),
    ],
)
def test_absurd_numbers_in_paths_are_the_callers_fault(
    client: httpx.Client, sessions: Sessions, method: str, path: str
) -> None:
    job_id = make_job(sessions)
    answer = client.request(method, path.format(job=job_id), json={"text": "x"} if method == "PATCH" else None)
    assert 400 <= answer.status_code < 500
    assert problem(answer)["code"]


def test_a_tenants_absurd_number_stops_nobodys_upkeep(settings: Settings, sessions: Sessions) -> None:
    """As an older version may have stored it."""
    absurd = make_job(
        sessions, tenant="one", status="completed", transcript_prefix="x/", options={"retain_days": 1e300}
    )
    odd = make_job(
        sessions, tenant="one", status="completed", transcript_prefix="x/", options={"retain_days": "soon"}
    )
    due = make_job(
        sessions, tenant="two", status="completed", transcript_prefix="x/", options={"retain_days": 1e-9}
    )
    with sessions.begin() as session:
        for job_id in (absurd, odd, due):
            session.get_one(Job, job_id).completed_at = session.get_one(Job, job_id).created_at
    runtime = FakeRuntime(settings, lambda _: "", lambda _: "")
    retention.erase_expired(runtime)
    with sessions() as session:
        deleted = {job_id for job_id in (absurd, odd, due) if session.get_one(Job, job_id).deleted_at is not None}
    assert deleted == {due}


FORM_BEGINNING = b"--b\r\nContent-Disposition: form-data; name=file; filename=x\r\n\r\nsound"


def form_head(headers: str = "", body: bytes = FORM_BEGINNING) -> bytes:
    """The beginning of an upload of 100 kB."""
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n{headers}"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n\r\n"
    )
    return head.encode() + body


KEYS = {"k1": "one", "k2": "two", "k3": ApiKey(tenant="one", max_priority="high")}


class TestUploadSlots:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"api_keys": KEYS, "max_uploads": 4, "stall_seconds": LIMIT_SECONDS})

    def test_one_tenant_cannot_hold_all_upload_slots(self, client: httpx.Client) -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                connection = stack.enter_context(connect(client))
                connection.sendall(form_head("Authorization: Bearer k1\r\nExpect: 100-continue\r\n", body=b""))
                # the server asks for the body once the upload has its slot
                assert connection.recv(4096).startswith(b"HTTP/1.1 100")
            answer = client.post("/v1/jobs", files={"file": ("a.mp3", b"x")}, headers=ONE)
            assert (answer.status_code, problem(answer)["code"]) == (429, "too_many_uploads")
            assert "one tenant" in problem(answer)["detail"]
            assert client.post("/v1/jobs", files={"file": ("a.mp3", b"x")}, headers=TWO).status_code == 202


class TestShares:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"api_keys": KEYS, "max_waiting_hours": 120 / 3600})

    def test_one_tenant_cannot_fill_the_queue(self, client: httpx.Client) -> None:
        for _ in range(2):
            answer = client.post("/v1/jobs", files={"file": ("a.mp3", b"x")}, headers=ONE)
            assert answer.status_code == 202
        full = client.post("/v1/jobs", files={"file": ("a.mp3", b"x")}, headers=ONE)
        assert (full.status_code, problem(full)["code"]) == (429, "queue_full")
        assert client.post("/v1/jobs", files={"file": ("a.mp3", b"x")}, headers=TWO).status_code == 202

    def test_priority_is_a_right_of_the_key(self, client: httpx.Client, settings: Settings) -> None:
        def submit(key: str, priority: str) -> httpx.Response:
            headers = {"Authorization": f"Bearer {key}"}
            return client.post(
                "/v1/jobs", data={"priority": priority}, files={"file": ("a.mp3", b"x")}, headers=headers
            )

        answer = submit("k2", "high")
        assert (answer.status_code, problem(answer)["code"]) == (403, "priority_not_allowed")
        assert list(Storage(settings).list("")) == []
        assert submit("k2", "low").status_code == 202
        assert submit("k3", "high").status_code == 202


class TestSlowUploads:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"min_upload_rate": 1000})

    def test_a_byte_now_and_then_does_not_hold_a_slot(self, client: httpx.Client) -> None:
        with connect(client) as connection:
            connection.sendall(form_head())
            received = b""
            connection.settimeout(0.2)
            while not received.endswith(b"}"):
                with contextlib.suppress(TimeoutError):
                    received += connection.recv(4096)
                if not received:
                    connection.sendall(b"x")
        assert received.startswith(b"HTTP/1.1 408")
        assert b"upload_too_slow" in received


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::"])
def test_without_keys_only_this_machines_names_are_answered(client: httpx.Client, host: str) -> None:
    answer = client.get("/v1/jobs", headers={"Host": host})
    assert (answer.status_code, problem(answer)["code"]) == (421, "host_not_allowed")


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1", "127.1.2.3:80", "[::1]:8000"])
def test_names_of_this_machine_are_answered(client: httpx.Client, host: str) -> None:
    assert client.get("/v1/jobs", headers={"Host": host}).status_code == 200


def test_every_answer_has_security_headers(client: httpx.Client) -> None:
    answers = [client.get(path) for path in ("/healthz", "/v1/jobs", "/v1/jobs/nothing", "/nowhere", "/docs")]
    for answer in [*answers, client.get("/healthz", headers={"Host": "evil"}), upload(client)]:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert answers[1].headers["Cache-Control"] == "no-store"


class TestWithoutDocs:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"docs": False})

    @pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
    def test_pages_can_be_switched_off(self, client: httpx.Client, path: str) -> None:
        assert client.get(path).status_code == 404


class TestReadiness:
    @pytest.fixture
    def settings(self, settings: Settings) -> Iterator[Settings]:
        """S3 at an address that accepts and never answers."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            yield settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{port}"})

    def test_readiness_has_a_deadline_and_shares_its_checks(self, client: httpx.Client) -> None:
        answers: list[httpx.Response] = []
        threads = [threading.Thread(target=lambda: answers.append(client.get("/readyz"))) for _ in range(20)]
        before = threading.active_count()
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {answer.status_code for answer in answers} == {503}
        assert answers[0].json()["checks"] == {"postgres": "ok", "redis": "ok", "s3": "down"}
        assert time.monotonic() - started < 30
        health = [thread for thread in threading.enumerate() if thread.name.startswith("health")]
        assert len(health) <= 3, before
