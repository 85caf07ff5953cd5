"""What is tried again, and what is not, against a server that fails as it is told."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from longhand import (
    ApiError,
    Client,
    Forbidden,
    JobFailed,
    LonghandError,
    NotFound,
    RateLimited,
    ServerError,
    Unreachable,
    api,
)

Answer = tuple[int, dict[str, str], object]
BROKEN: Answer = (0, {}, None)
JOB: Answer = (200, {}, {"id": "1", "status": "completed"})


def problem(status: int, code: str, **headers: str) -> Answer:
    document = {"status": status, "code": code, "title": "Title", "detail": "What to do."}
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, document


@dataclass
class Flaky:
    url: str
    answers: list[Answer] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flaky]:
    """Gives the answers of its list in turn; BROKEN closes the connection behind the request."""
    monkeypatch.setattr(api, "MAX_PAUSE_SECONDS", 0.05)

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            server.asked.append(f"{self.command} {self.path}")
            server.bodies.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            status, headers, body = server.answers.pop(0)
            self.close_connection = True
            if status == 0:
                return
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = do_PATCH = _answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Flaky(f"http://127.0.0.1:{running.server_port}")
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield server
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize("failure", [BROKEN, problem(503, "unavailable"), (502, {}, "a proxy's page")])
def test_what_does_no_harm_is_tried_again(flaky: Flaky, failure: Answer) -> None:
    flaky.answers = [failure, failure, JOB]
    assert Client(flaky.url).jobs.get("1")["id"] == "1"
    assert len(flaky.asked) == 3


@pytest.mark.parametrize(("failure", "error"), [(BROKEN, Unreachable), (problem(503, "unavailable"), ServerError)])
def test_what_may_have_been_done_is_not_repeated(flaky: Flaky, failure: Answer, error: type[Exception]) -> None:
    flaky.answers = [failure]
    with pytest.raises(error):
        Client(flaky.url).keys.create("ci", ["jobs:read"])
    assert len(flaky.asked) == 1


def test_an_upload_is_sent_again_from_its_beginning(flaky: Flaky) -> None:
    flaky.answers = [BROKEN, problem(429, "too_many_uploads", Retry_After="0"), JOB]
    seen: list[tuple[int, int]] = []
    Client(flaky.url).jobs.submit(b"abc" * 10, on_progress=lambda sent, size: seen.append((sent, size)))
    assert len({*flaky.asked}) == 1
    assert all(b"abc" * 10 in body for body in flaky.bodies)
    assert seen[-1] == (30, 30)


def test_a_server_that_says_when_is_asked_then(flaky: Flaky) -> None:
    flaky.answers = [problem(429, "queue_full", Retry_After="1"), JOB]
    began = time.monotonic()
    Client(flaky.url).jobs.cancel("1")
    assert time.monotonic() - began >= 1


def test_a_quota_of_the_month_is_not_waited_for(flaky: Flaky) -> None:
    flaky.answers = [problem(429, "quota_audio_hours", Retry_After="100000")]
    with pytest.raises(RateLimited) as refused:
        Client(flaky.url).jobs.get("1")
    error = refused.value
    assert (error.status, error.code, error.title, error.detail, error.retry_after) == (
        *(429, "quota_audio_hours", "Title", "What to do.", 100000.0),
    )


def test_what_a_lost_answer_has_deleted_is_deleted(flaky: Flaky) -> None:
    flaky.answers = [BROKEN, problem(404, "job_not_found")]
    Client(flaky.url).jobs.delete("1")
    flaky.answers = [problem(404, "job_not_found")]
    with pytest.raises(NotFound):
        Client(flaky.url).jobs.delete("1")


@pytest.mark.parametrize("answer", [(403, {}, ["no problem"]), problem(403, "scope_missing")])
def test_errors_have_their_class_whoever_answers(flaky: Flaky, answer: Answer) -> None:
    flaky.answers = [answer]
    with pytest.raises(Forbidden):
        Client(flaky.url).jobs.get("1")


def test_a_job_that_fails_is_raised(flaky: Flaky) -> None:
    error = {"code": "audio_empty", "message": "No samples."}
    flaky.answers = [JOB, (200, {}, {"id": "1", "status": "failed", "error": error})]
    assert Client(flaky.url).jobs.wait("1")["status"] == "completed"
    with pytest.raises(JobFailed, match=r"No samples\. \(audio_empty\)"):
        Client(flaky.url).jobs.wait("1")


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.jobs.get("../../admin?x=1#y"),
        lambda c: c.tenants.get("a/b"),
        lambda c: c.jobs.get(".."),
    ],
)
def test_ids_stay_within_their_part_of_the_path(flaky: Flaky, call: Callable[[Client], object]) -> None:
    flaky.answers = [problem(404, "not_found")]
    with pytest.raises(ApiError):
        call(Client(flaky.url))
    assert flaky.asked[0] in (
        "GET /v1/jobs/..%2F..%2Fadmin%3Fx%3D1%23y",
        "GET /v1/tenants/a%2Fb",
        "GET /v1/jobs/%2E%2E",
    )


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (lambda c: c.keys.revoke("1"), "/v1/keys/1"),
        (lambda c: c.jobs.transcript_as("1", "txt"), "/v1/jobs/1/transcript"),
        (lambda c: list(c.jobs.events("1")), "/v1/jobs/1/events"),
        (lambda c: c.uploads.send("1", b"recording"), "/v1/uploads/1"),
    ],
)
def test_a_redirect_is_no_success(flaky: Flaky, call: Callable[[Client], object], path: str) -> None:
    upload: Answer = (200, {}, {"id": "1", "status": "receiving", "bytes": 9, "received": 0})
    moved: Answer = (301, {"Location": f"https://moved.example/at{path}?signed"}, b"")
    flaky.answers = [upload, moved] if "uploads" in path else [moved]
    with pytest.raises(LonghandError, match=f"^{flaky.url} redirects to https://moved.example/at: give that"):
        call(Client(flaky.url))


def test_an_error_shows_no_password() -> None:
    with pytest.raises(Unreachable) as refused:
        Client("http://user:s3cret@127.0.0.1:1/at", retries=0).jobs.get("1")
    assert str(refused.value).startswith("http://127.0.0.1:1/at/ cannot be reached: ")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "call", [lambda c: c.jobs.get("1"), lambda c: c.jobs.download_audio("1", "never-written")]
)
def test_another_server_is_told_from_ours(flaky: Flaky, call: Callable[[Client], object]) -> None:
    flaky.answers = [(200, {}, b"<html>")]
    with pytest.raises(LonghandError, match="no Longhand server"):
        call(Client(flaky.url))
