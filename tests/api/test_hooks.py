"""Events of S3 servers, in the shapes that AWS, MinIO and VersityGW send, and the jobs that come of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_plus

import httpx
import pytest
from sqlalchemy import select

from api.app import create_app
from db.access import keys
from db.models import AuditEntry, Job, JobStatus, Priority, Scope
from db.objects.storage import Storage
from db.session import Sessions
from db.settings import Settings
from tasks.steps import fetch
from tests.api.conftest import serving
from tests.api.test_jobs import problem
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import HANDLERS, recording, run_until_done

BUCKET = "dropped"
HOOK = "/v1/hooks/s3"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    changes: dict[str, Any] = {"s3_source_buckets": [BUCKET], "diarize": False, "retry_seconds": 0.001}
    return Settings.model_validate(settings.model_dump() | changes)


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    storage = Storage(settings)
    storage.client.create_bucket(Bucket=BUCKET)
    with serving(create_app(settings), settings) as opened:
        yield opened
    for item in storage.client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        storage.client.delete_object(Bucket=BUCKET, Key=item["Key"])
    storage.client.delete_bucket(Bucket=BUCKET)


def put(settings: Settings, key: str, content: bytes | dict[str, Any]) -> None:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    Storage(settings).client.put_object(Bucket=BUCKET, Key=key, Body=body)


def record(
    key: str, *, bucket: str = BUCKET, event: str = "ObjectCreated:Put", etag: str = "e1"
) -> dict[str, Any]:
    """As AWS sends it."""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "eu-central-1",
        "eventTime": "2026-05-01T12:00:00.000Z",
        "eventName": event,
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "to-longhand",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {"key": quote_plus(key, safe="/"), "size": 5, "eTag": etag, "sequencer": "0A1B"},
        },
    }


def minio(key: str) -> dict[str, Any]:
    """MinIO quotes slashes too, and names the event once more around its one record."""
    event = "s3:ObjectCreated:CompleteMultipartUpload"
    inner = record(key, event=event)
    inner["s3"]["object"] |= {"key": quote_plus(key), "versionId": "v1", "userMetadata": {}}
    return {"EventName": event, "Key": f"{BUCKET}/{key}", "Records": [inner | {"eventSource": "minio:s3"}]}


def send(client: httpx.Client, *records: dict[str, Any], query: str = "") -> dict[str, Any]:
    answer = client.post(f"{HOOK}{query}", json={"Records": records})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def jobs_of(sessions: Sessions) -> list[Job]:
    with sessions() as session:
        return list(session.scalars(select(Job).order_by(Job.created_at)))


def test_an_object_becomes_a_transcript(client: httpx.Client, settings: Settings, sessions: Sessions) -> None:
    put(settings, "in/my talk+1 ü.flac", recording())
    answer = client.post(f"{HOOK}?language=en", json=minio("in/my talk+1 ü.flac"))
    assert answer.status_code == 202
    (made,) = answer.json()["jobs"]
    assert answer.headers["Location"] == f"/v1/jobs/{made['job_id']}"
    runtime = FakeRuntime(settings, lambda _: "we met on monday", lambda _: "we met on Monday")
    run_until_done(runtime, [fetch.handler, *HANDLERS])
    job = client.get(f"/v1/jobs/{made['job_id']}").json()
    assert (job["status"], job["audio"]["bytes"]) == ("completed", len(recording()))
    assert (job["audio"]["filename"], job["language"]) == ("my talk+1 ü.flac", "en")
    with sessions() as session:
        (entry,) = session.scalars(select(AuditEntry).where(AuditEntry.action == f"POST {HOOK}"))
    assert entry.target == made["job_id"]


def test_an_event_that_comes_again_makes_no_job(
    client: httpx.Client, sessions: Sessions, settings: Settings
) -> None:
    first = send(client, record("a.mp3"), record("b.mp3"))
    put(settings, "a.json", {"language": "de"})
    assert send(client, record("a.mp3"), record("b.mp3")) == first
    assert send(client, record("a.mp3", etag="e2"))["jobs"] != first["jobs"][:1], "it was overwritten"
    assert len(jobs_of(sessions)) == 3


@pytest.mark.parametrize(
    "body",
    [
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-05-01T12:00:00Z", "Bucket": BUCKET},
        {"Records": []},
        {"Records": [record("a.mp3", event="ObjectRemoved:Delete")]},
        {"Records": [record("a.json"), record("a.txt"), record(".a.mp3"), record(".parts/a.mp3"), record("a/")]},
        {"Records": [{"eventName": "s3:BucketCreated:*", "s3": {"bucket": {"name": BUCKET}}}]},
    ],
)
def test_what_makes_no_job(client: httpx.Client, sessions: Sessions, body: dict[str, Any]) -> None:
    answer = client.post(HOOK, json=body)
    assert (answer.status_code, answer.json()["jobs"]) == (202, [])
    assert len(answer.json()["ignored"]) == len(body.get("Records", []))
    assert jobs_of(sessions) == []


def test_prefix_and_suffix(client: httpx.Client) -> None:
    taken = send(client, record("in/a.mp3"), record("in/a.wav"), record("a.mp3"), query="?prefix=in/&suffix=.mp3")
    assert [made["key"] for made in taken["jobs"]] == ["in/a.mp3"]


def test_options_beside_an_object(client: httpx.Client, settings: Settings, sessions: Sessions) -> None:
    put(settings, "a.json", {"language": "de", "speakers": 2, "diarize": True})
    put(settings, "b.json", {"job_id": "a transcript", "segments": []})
    send(client, record("a.mp3"), record("b.mp3"), record("c.mp3"), query="?language=en&source=bucket")
    chosen = [(job.language, job.options.get("speakers"), job.options["source"]) for job in jobs_of(sessions)]
    assert chosen == [("de", 2, "bucket"), ("en", None, "bucket"), ("en", None, "bucket")]


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"{", "not JSON"), (b"[]", "no JSON object"), ({"colour": "red"}, "colour"), ({"speakers": 0}, "speakers")],
)
def test_options_that_cannot_be_taken_fail_one_job(
    client: httpx.Client, settings: Settings, sessions: Sessions, content: Any, told: str
) -> None:
    put(settings, "in/a.json", content)
    first = send(client, record("in/a.mp3"), record("in/b.mp3"))
    assert send(client, record("in/a.mp3"), record("in/b.mp3")) == first
    failed, fine = jobs_of(sessions)
    assert (failed.status, failed.error_code, fine.status) == (
        JobStatus.FAILED,
        "sidecar_invalid",
        JobStatus.QUEUED,
    )
    assert failed.error_message is not None
    assert failed.error_message.startswith(f"s3://{BUCKET}/in/a.json: ")
    assert told in failed.error_message
    put(settings, "in/a.json", {"speakers": 2})
    (mended,) = send(client, record("in/a.mp3"))["jobs"]
    assert mended["job_id"] != str(failed.id)


def test_an_object_that_cannot_be_fetched_fails_its_job(client: httpx.Client, settings: Settings) -> None:
    (made,) = send(client, record("gone.mp3"))["jobs"]
    run_until_done(FakeRuntime(settings, lambda _: "", lambda _: ""), [fetch.handler])
    job = client.get(f"/v1/jobs/{made['job_id']}").json()
    assert (job["status"], job["error"]["code"]) == ("failed", "url_not_found")


@pytest.mark.parametrize("bucket", ["others", "", "our-own"])
def test_no_other_bucket(client: httpx.Client, sessions: Sessions, settings: Settings, bucket: str) -> None:
    bucket = settings.s3_bucket if bucket == "our-own" else bucket
    answer = client.post(HOOK, json={"Records": [record("a.mp3"), record("b.mp3", bucket=bucket)]})
    assert (answer.status_code, problem(answer)["code"]) == (422, "url_not_allowed")
    assert jobs_of(sessions) == []


def test_mistakes_are_told_to_who_sets_it_up(client: httpx.Client, sessions: Sessions) -> None:
    for query, code in (("?colour=red", "invalid_options"), ("?speakers=0", "invalid_options")):
        answer = client.post(f"{HOOK}{query}", json={"Event": "s3:TestEvent"})
        assert (answer.status_code, problem(answer)["code"]) == (422, code)
    bodies: list[Any] = [[], {"Records": [{}]}, {"Records": 3}, {"Records": [{"eventName": 1}]}]
    for body in bodies:
        answer = client.post(HOOK, json=body)
        assert (answer.status_code, problem(answer)["code"]) == (422, "invalid_request")
    assert jobs_of(sessions) == []


def test_a_key_that_may_make_jobs(client: httpx.Client, sessions: Sessions, settings: Settings) -> None:
    """MinIO's `auth_token` comes as a bearer. What its owner may not ask for, nobody may by a file in a bucket."""
    tokens = []
    for scope in (Scope.JOBS_WRITE, Scope.JOBS_READ):
        with sessions.begin() as session:
            made = keys.create(
                session,
                tenant="acme",
                name=scope,
                scopes={scope},
                max_priority=Priority.NORMAL,
                expires_at=None,
            )
            tokens.append(made[1])
    put(settings, "a.json", {"priority": "high"})
    writing, reading = ({"Authorization": f"Bearer {token}"} for token in tokens)
    body: dict[str, Any] = {"Records": [record("a.mp3")]}
    with serving(create_app(settings), settings) as guarded:
        assert guarded.post(HOOK, json=body).status_code == 401
        assert guarded.post(HOOK, json=body, headers=reading).status_code == 403
        assert guarded.post(f"{HOOK}?priority=high", json=body, headers=writing).status_code == 403
        assert guarded.post(HOOK, json=body, headers=writing).status_code == 202
    (job,) = jobs_of(sessions)
    assert (job.tenant, job.error_code) == ("acme", "sidecar_invalid")
