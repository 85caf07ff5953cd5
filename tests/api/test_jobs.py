"""The public contract of /v1/jobs, over HTTP, on real servers."""

from __future__ import annotations

import hashlib
import json
import socket
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update

from db.models import Event, Job, JobStatus, StepKind, StepState
from db.objects.storage import Storage
from db.session import Sessions
from db.settings import MIB, Settings
from tests.jobs import make_job, steps_of
from tests.waiting import until


def upload(client: httpx.Client, body: bytes = b"sound", **fields: str) -> httpx.Response:
    return client.post("/v1/jobs", files={"file": ("talk.mp3", body)}, data=fields)


def problem(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "code", "detail"} <= set(document)
    assert document["status"] == answer.status_code
    return document


def objects(settings: Settings) -> list[str]:
    return [key for key, _ in Storage(settings).list("")]


def test_an_upload_becomes_a_job(client: httpx.Client, settings: Settings, sessions: Sessions) -> None:
    answer = upload(client, b"x" * 1000, options='{"language": "en", "hotwords": ["Longhand"]}', priority="high")
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}" == job["urls"]["self"]
    assert job["status"] == "queued"
    assert job["audio"] == {
        "filename": "talk.mp3",
        "bytes": 1000,
        "sha256": hashlib.sha256(b"x" * 1000).hexdigest(),
        "erased_at": None,
        "duration": None,
        "sample_rate": None,
        "channels": None,
        "source_url": None,
    }
    assert job["options"] == {
        "language": "en",
        "hotwords": ["Longhand"],
        "refine": "always",
        "channels": "mix",
        "priority": "high",
    }
    assert set(job["models"]) == {"draft", "refine", "diarize", "embed"}
    assert set(job["progress"]) == {"chunks", "drafted", "refined", "final", "percent"}
    assert Storage(settings).get(f"jobs/{job['id']}/source") == b"x" * 1000
    (step,) = steps_of(sessions, uuid.UUID(job["id"]))
    assert (step.kind, step.state) == (StepKind.INGEST, StepState.READY)
    assert client.get(job["urls"]["self"]).json() == job


def test_fields_may_stand_before_or_after_the_file(client: httpx.Client) -> None:
    def body(parts: list[str]) -> bytes:
        return "".join(f"--b\r\n{part}\r\n" for part in parts).encode() + b"--b--\r\n"

    file = 'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nsound'
    field = 'Content-Disposition: form-data; name="language"\r\n\r\nde'
    for parts in ([file, field], [field, file]):
        answer = client.post(
            "/v1/jobs", content=body(parts), headers={"Content-Type": "multipart/form-data; boundary=b"}
        )
        assert answer.status_code == 202
        assert answer.json()["options"]["language"] == "de"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"colour": "red"}, "colour"),
        ({"options": "{not json"}, "JSON"),
        ({"options": "[1]"}, "object"),
        ({"language": "English"}, "language"),
        ({"language": "xx"}, "language"),
        ({"refine": "sometimes"}, "refine"),
        ({"priority": "urgent"}, "priority"),
        ({"options": '{"draft_engine": "magic"}'}, "draft_engine"),
        ({"speakers": "0"}, "speakers"),
        ({"min_speakers": "4", "max_speakers": "2"}, "min_speakers 4 is more than max_speakers 2"),
        ({"speakers": "2", "max_speakers": "3"}, "either `speakers`"),
        ({"language": "de", "draft_engine": "sensevoice-onnx"}, "sensevoice-onnx knows en, ja, ko, yue, zh"),
        ({"hotwords": ",".join(["w"] * 101)}, "hotwords"),
        ({"options": '{"hotwords": ["a\\u0000b"]}'}, "hotwords"),
        ({"hotwords": "a\x00b"}, "hotwords"),
        ({"options": '{"hotwords": ["\\ud800"]}'}, "hotwords"),
    ],
)
def test_bad_options_are_refused_and_leave_nothing(
    client: httpx.Client, settings: Settings, fields: dict[str, str], said: str
) -> None:
    answer = upload(client, b"x" * (9 * MIB), **fields)
    assert answer.status_code == 422
    found = problem(answer)
    assert found["code"] == "invalid_options"
    assert said in found["detail"]
    assert objects(settings) == []
    assert client.get("/v1/jobs").json() == {"data": [], "next_cursor": None}


def test_a_missing_file_an_empty_one_and_two(client: httpx.Client, settings: Settings) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    field = b'--b\r\nContent-Disposition: form-data; name="language"\r\n\r\nen\r\n--b--\r\n'
    assert problem(client.post("/v1/jobs", content=field, headers=form))["code"] == "file_missing"
    assert problem(upload(client, b""))["code"] == "file_empty"
    two = [("file", ("a.mp3", b"x")), ("file", ("b.mp3", b"y"))]
    assert problem(client.post("/v1/jobs", files=two))["code"] == "file_repeated"
    assert objects(settings) == []


def test_bodies_that_are_not_multipart(client: httpx.Client) -> None:
    answer = client.post("/v1/jobs", content=b"x", headers={"Content-Type": "audio/mpeg"})
    assert (answer.status_code, problem(answer)["code"]) == (415, "unsupported_media_type")
    answer = client.post(
        "/v1/jobs", content=b"garbage", headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert (answer.status_code, problem(answer)["code"]) == (400, "malformed_body")


@pytest.mark.parametrize(
    "body",
    [
        b"".join(b'--b\r\nContent-Disposition: form-data; name="f%d"\r\n\r\nx\r\n' % n for n in range(99)),
        b"--b\r\nX: " + b"y" * 100_000,
        b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
    ],
)
def test_forms_out_of_all_proportion(client: httpx.Client, body: bytes) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = client.post("/v1/jobs", content=body, headers=form)
    assert (answer.status_code, problem(answer)["code"]) == (400, "malformed_body")


def test_a_body_that_breaks_off_leaves_nothing(client: httpx.Client, settings: Settings) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = client.post("/v1/jobs", content=head + b"x" * (20 * MIB), headers=form)
    assert problem(answer)["code"] == "malformed_body"
    assert objects(settings) == []


def test_a_client_that_goes_away_leaves_nothing(client: httpx.Client, settings: Settings) -> None:
    storage, url = Storage(settings), client.base_url

    def begun() -> list[object]:
        return list(storage.stale_uploads(datetime.now(UTC) + timedelta(hours=1)))

    with socket.create_connection((url.host, url.port or 80)) as connection:
        head = "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n"
        head += "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        part = '--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        connection.sendall((head + part).encode() + b"x" * (20 * MIB))
        until(begun, "the upload reaches storage while it goes on")
    until(lambda: not begun(), "what was begun is given up")
    assert objects(settings) == []
    assert client.get("/v1/jobs").json()["data"] == []


class TestLimits:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"max_upload_bytes": 10 * MIB})

    def test_a_declared_size_over_the_limit_is_refused_at_once(self, client: httpx.Client) -> None:
        answer = upload(client, b"x" * (12 * MIB))
        assert answer.status_code == 413
        assert "10 MiB" in problem(answer)["detail"]

    def test_an_undeclared_size_is_refused_when_it_passes_the_limit(
        self, client: httpx.Client, settings: Settings
    ) -> None:
        def body() -> Iterator[bytes]:
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            for _ in range(12):
                yield b"x" * MIB
            yield b"\r\n--b--\r\n"

        form = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = client.post("/v1/jobs", content=body(), headers=form)
        assert (answer.status_code, problem(answer)["code"]) == (413, "file_too_large")
        assert objects(settings) == []


def test_the_same_idempotency_key_makes_one_job(client: httpx.Client, settings: Settings) -> None:
    def post(body: bytes) -> httpx.Response:
        headers = {"Idempotency-Key": "monday"}
        return client.post("/v1/jobs", files={"file": ("a.mp3", body)}, headers=headers)

    first, again, other = post(b"one"), post(b"one"), post(b"two")
    assert first.json()["id"] == again.json()["id"]
    assert (other.status_code, problem(other)["code"]) == (422, "idempotency_key_reused")
    assert len(objects(settings)) == 1


def test_listing_pages_through_everything_once(client: httpx.Client) -> None:
    made = [upload(client).json()["id"] for _ in range(5)]
    seen, cursor = [], None
    while True:
        page = client.get("/v1/jobs", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [job["id"] for job in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == made[::-1]
    assert client.get("/v1/jobs", params={"status": "completed"}).json()["data"] == []


def test_jobs_are_searched(client: httpx.Client, sessions: Sessions) -> None:
    """By a part of their names or sources, and by several states."""
    for name, source in [("Talk_1.flac", "radio"), ("talk 2.flac", None), ("100%.flac", "Talks")]:
        make_job(sessions, filename=name, options={"source": source} if source else {})
    cancelled = client.get("/v1/jobs", params={"q": "100%"}).json()["data"]
    client.post(f"/v1/jobs/{cancelled[0]['id']}/cancel")

    def found(**query: str | list[str]) -> list[str]:
        return [job["audio"]["filename"] for job in client.get("/v1/jobs", params=query).json()["data"]]

    assert found(q="TALK") == ["100%.flac", "talk 2.flac", "Talk_1.flac"]
    assert found(q="k_1") == ["Talk_1.flac"]
    assert found(q="%") == ["100%.flac"]
    assert found(q="talk", status=["queued", "processing"]) == ["talk 2.flac", "Talk_1.flac"]
    assert found(status=["completed", "cancelled"]) == ["100%.flac"]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("cursor=nonsense", "invalid_cursor"),
        ("limit=0", "invalid_request"),
        ("status=odd", "invalid_request"),
        ("q=", "invalid_request"),
        ("q=%00", "invalid_request"),
    ],
)
def test_bad_queries(client: httpx.Client, query: str, code: str) -> None:
    assert problem(client.get(f"/v1/jobs?{query}"))["code"] == code


@pytest.mark.parametrize("job_id", ["nonsense", str(uuid.UUID(int=1))])
@pytest.mark.parametrize("path", ["", "/events", "/transcript", "/audio"])
def test_an_unknown_job(client: httpx.Client, job_id: str, path: str) -> None:
    answer = client.get(f"/v1/jobs/{job_id}{path}")
    assert (answer.status_code, problem(answer)["code"]) == (404, "job_not_found")


def test_paths_and_methods_that_do_not_exist(client: httpx.Client) -> None:
    assert problem(client.get("/v2"))["code"] == "not_found"
    assert problem(client.put("/v1/jobs"))["code"] == "method_not_allowed"


def test_cancelling_stops_the_job_and_its_steps(client: httpx.Client, sessions: Sessions) -> None:
    job_id = upload(client).json()["id"]
    answer = client.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert client.post(f"/v1/jobs/{job_id}/cancel").json()["status"] == "cancelled"
    assert [step.state for step in steps_of(sessions, uuid.UUID(job_id))] == [StepState.SKIPPED]
    with sessions() as session:
        types = session.scalars(select(Event.type).where(Event.job_id == uuid.UUID(job_id)).order_by(Event.seq))
        assert list(types) == ["job.queued", "job.cancelled"]


def test_a_finished_job_cannot_be_cancelled(client: httpx.Client, sessions: Sessions) -> None:
    job_id = upload(client).json()["id"]
    with sessions.begin() as session:
        job = session.get_one(Job, uuid.UUID(job_id))
        job.status, job.transcript_prefix = JobStatus.COMPLETED, "x"
    answer = client.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, problem(answer)["code"]) == (409, "job_finished")


def test_a_deleted_job_is_gone_at_once(client: httpx.Client, sessions: Sessions) -> None:
    job_id = upload(client).json()["id"]
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert client.get(f"/v1/jobs/{job_id}").status_code == 404
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 404
    assert client.get("/v1/jobs").json()["data"] == []
    states = {step.kind: step.state for step in steps_of(sessions, uuid.UUID(job_id))}
    assert states == {StepKind.INGEST: StepState.SKIPPED, StepKind.PURGE: StepState.READY}


def test_audio_redirects_to_the_recording(client: httpx.Client) -> None:
    job_id = upload(client, b"the very bytes").json()["id"]
    answer = client.get(f"/v1/jobs/{job_id}/audio")
    assert answer.status_code == 307
    assert httpx.get(answer.headers["location"]).content == b"the very bytes"


def test_an_empty_transcript_renders_in_every_format(client: httpx.Client) -> None:
    job_id = upload(client).json()["id"]
    for format_ in ("json", "txt", "srt", "vtt"):
        assert client.get(f"/v1/jobs/{job_id}/transcript", params={"format": format_}).status_code == 200
    assert problem(client.get(f"/v1/jobs/{job_id}/transcript?format=pdf"))["code"] == "invalid_request"


def test_health_and_readiness(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    answer = client.get("/readyz")
    assert answer.json() == {"status": "ok", "checks": {"postgres": "ok", "redis": "ok", "s3": "ok"}}


class TestUnready:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"s3_bucket": "no-such-bucket", "redis_url": "redis://127.0.0.1:1/0"})

    def test_readiness_names_what_is_down(self, client: httpx.Client) -> None:
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["checks"] == {"postgres": "ok", "redis": "down", "s3": "down"}

    def test_a_storage_failure_is_a_problem_and_makes_no_job(self, client: httpx.Client) -> None:
        answer = upload(client)
        assert (answer.status_code, problem(answer)["code"]) == (503, "unavailable")
        assert client.get("/v1/jobs").json()["data"] == []


class TestKeys:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"api_keys": {"k1": "one", "k2": "two"}})

    def test_tenants_see_their_own_jobs_alone(self, client: httpx.Client) -> None:
        assert problem(client.get("/v1/jobs"))["code"] == "unauthorized"
        assert client.get("/v1/jobs", headers={"Authorization": "Bearer wrong"}).status_code == 401
        one, two = ({"Authorization": f"Bearer {key}"} for key in ("k1", "k2"))
        job_id = client.post("/v1/jobs", files={"file": ("a.mp3", b"x")}, headers=one).json()["id"]
        assert client.get(f"/v1/jobs/{job_id}", headers=one).status_code == 200
        assert client.get(f"/v1/jobs/{job_id}", headers=two).status_code == 404
        assert client.get("/v1/jobs", headers=two).json()["data"] == []


def test_openapi_describes_the_upload(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    form = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert {"file", "options", "language", "hotwords"} <= set(form["properties"])
    assert json.dumps(document)
    page = client.get("/docs")
    assert page.status_code == 200
    assert "//cdn" not in page.text


class TestFullQueue:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        # as much as the two shortest recordings count for
        return settings.model_copy(update={"max_waiting_hours": 60 / 3600})

    def test_uploads_are_asked_to_come_back(self, client: httpx.Client, sessions: Sessions) -> None:
        job_id = uuid.UUID(upload(client).json()["id"])
        assert upload(client).status_code == 202
        answer = upload(client)
        assert (answer.status_code, problem(answer)["code"]) == (429, "queue_full")
        assert int(answer.headers["Retry-After"]) == 600, "nothing was ever done here"
        self._complete_hours(sessions, hours=1.0)
        # 90 seconds wait beyond, and six are done in a second
        with sessions.begin() as session:
            session.execute(update(Job).where(Job.id == job_id).values(duration=120.0))
        assert int(upload(client).headers["Retry-After"]) == 15
        client.post(f"/v1/jobs/{job_id}/cancel")
        assert upload(client).status_code == 202

    def _complete_hours(self, sessions: Sessions, hours: float) -> None:
        done = make_job(sessions)
        values = {"status": JobStatus.COMPLETED, "completed_at": func.now(), "transcript_prefix": "x"}
        with sessions.begin() as session:
            session.execute(update(Job).where(Job.id == done).values(duration=3600 * hours, **values))
