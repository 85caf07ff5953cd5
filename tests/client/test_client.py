"""Both clients against a real server, without workers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import create_app
from db.session import Sessions
from db.settings import ApiKey, Settings
from longhand import AsyncClient, Client, Conflict, InvalidRequest, NotFound, Unauthorized, WaitTimeout
from tests.api.conftest import serving
from tests.filled import fill
from tests.jobs import make_job

TENANT = "house"


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:
    keys: dict[str, str | ApiKey] = {"root": ApiKey(tenant=TENANT)}
    with serving(create_app(settings.model_copy(update={"api_keys": keys})), settings) as opened:
        yield str(opened.base_url)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url, "root", retries=0) as opened:
        yield opened


def test_a_recording_goes_up_and_comes_down(client: Client, tmp_path: Path) -> None:
    recording = tmp_path / "täglich \N{BELL} 1.flac"
    recording.write_bytes(bytes(range(256)) * 1000)
    job = client.jobs.submit(recording, {"language": "en", "speakers": 2}, idempotency_key="once")
    assert (job["status"], job["audio"]["filename"]) == ("queued", recording.name)
    assert (
        client.jobs.submit(recording, {"language": "en", "speakers": 2}, idempotency_key="once")["id"] == job["id"]
    )
    assert client.jobs.get(job["id"])["options"]["speakers"] == 2
    target = client.jobs.download_audio(job["id"], tmp_path / "down" / "a.flac")
    assert target.read_bytes() == recording.read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["a.flac"]
    assert client.jobs.transcript(job["id"])["segments"] == []
    assert client.jobs.transcript_as(job["id"], "vtt").startswith(b"WEBVTT")
    with pytest.raises(WaitTimeout):
        client.jobs.wait(job["id"], timeout=0.1)
    assert client.jobs.cancel(job["id"])["status"] == "cancelled"
    assert [event.type for event in client.jobs.events(job["id"])] == ["job.queued", "job.cancelled"]
    assert [event.seq for event in client.jobs.events(job["id"], after=1)] == [2]
    client.jobs.retry(job["id"])
    with pytest.raises(Conflict):
        client.jobs.retry(job["id"])
    client.jobs.delete(job["id"])
    with pytest.raises(NotFound) as missing:
        client.jobs.get(job["id"])
    assert missing.value.code == "job_not_found"


def test_lists_go_through_all_pages(client: Client, sessions: Sessions) -> None:
    made = [str(make_job(sessions, tenant=TENANT)) for _ in range(103)]
    assert [job["id"] for job in client.jobs.list()] == made[::-1]
    assert [job["id"] for job in client.jobs.list(limit=101)] == made[:1:-1]
    assert list(client.jobs.list(limit=2, status="failed")) == []
    assert list(client.jobs.list(search="no such name")) == []


def test_what_is_refused_is_said(client: Client, url: str) -> None:
    with pytest.raises(InvalidRequest, match="Unknown option 'colour'"):
        client.jobs.submit(b"x", {"colour": "red"})  # type: ignore[arg-type]
    with pytest.raises(Unauthorized):
        Client(url, "wrong").tenants.own()


def test_a_download_goes_on_where_it_broke(client: Client, tmp_path: Path) -> None:
    """Half of the file is there when the connection breaks."""
    job = client.jobs.submit(bytes(100_000))
    ranges: list[str | None] = []

    class Breaking(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            answer = super().handle_request(request)
            if request.url.path.endswith("/source"):
                ranges.append(request.headers.get("Range"))
                assert "Authorization" not in request.headers
                if len(ranges) == 1:
                    answer.stream = Broken()
            return answer

    class Broken(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield bytes(50_000)
            raise httpx.ReadError("broken")

    http = httpx.Client(base_url=str(client._api.transport.http.base_url), transport=Breaking())
    with Client(key="root", http=http) as breaking:
        breaking.jobs.download_audio(job["id"], tmp_path / "a")
    assert ranges == [None, "bytes=50000-"]
    assert (tmp_path / "a").stat().st_size == 100_000


def test_the_same_awaited(url: str, tmp_path: Path) -> None:
    async def use() -> None:
        async with AsyncClient(url, "root") as client:
            jobs = await asyncio.gather(*(client.jobs.submit(b"%d" % n, filename=f"{n}") for n in range(5)))
            assert {job["id"] async for job in client.jobs.list()} == {job["id"] for job in jobs}
            one = jobs[0]["id"]
            await client.jobs.cancel(one)
            assert [event.type async for event in client.jobs.events(one)] == ["job.queued", "job.cancelled"]
            assert (await client.jobs.download_audio(one, tmp_path / "a")).read_bytes() == b"0"
            with pytest.raises(NotFound):
                await client.voices.get("nobody")

    asyncio.run(use())


def test_every_other_resource(client: Client, sessions: Sessions) -> None:
    owned: Any = fill(sessions, TENANT)
    assert [voice["id"] for voice in client.voices.list()] == [str(owned.voice)]
    assert [heard["job_id"] for heard in client.voices.heard(str(owned.voice))] == [str(owned.done)]
    assert client.voices.change(str(owned.voice), name="Ada")["name"] == "Ada"
    assert client.voices.enrol("Bob", b"x")["status"] == "pending"
    assert [voice["name"] for voice in client.voices.list()] == ["Ada", "Bob"]
    made = client.keys.create("ci", ["jobs:read"], expires_in=60)
    assert made["id"] in {key["id"] for key in client.keys.list()}
    rotated = client.keys.rotate(made["id"])
    client.keys.revoke(rotated["id"])
    assert client.keys.get(rotated["id"])["revoked_at"]
    assert client.tokens.create(seconds=5)["token_type"] == "Bearer"
    assert client.tenants.change("acme", {"jobs_at_once": 3})["quotas"]["jobs_at_once"]["limit"] == 3
    assert client.tenants.replace("acme", {"stored_bytes": 3})["quotas"]["jobs_at_once"]["limit"] is None
    assert {tenant["name"] for tenant in client.tenants.list()} >= {"acme", TENANT}
    assert client.tenants.own()["name"] == TENANT
    assert client.usage.report(group_by=["model", "day"])["group_by"] == ["day", "model"]
    assert client.usage.csv().startswith("day,stage")
    assert any(entry["action"].startswith("POST /v1/keys") for entry in client.audit.list(action="POST"))
    assert sum(page.count("\r\n") or page.count("\n") for page in client.audit.csv(action="POST")) > 1
    asked = client.erasures.create(name="Cid", dry_run=True)
    assert client.erasures.get(asked["id"])["status"] == "pending"
    assert asked["id"] in {erasure["id"] for erasure in client.erasures.list()}
    hook = client.webhooks.create("https://example.org/hook", ["job.completed"])
    assert client.webhooks.change(hook["id"], disabled=True)["disabled"] is True
    assert hook["id"] in {webhook["id"] for webhook in client.webhooks.list()}
    assert client.webhooks.rotate_secret(hook["id"]) != hook["secret"]
    assert client.webhooks.rotate_tenant_secret()
    assert list(client.webhooks.deliveries(hook["id"])) == []
    client.webhooks.delete(hook["id"])
    assert [export["id"] for export in client.exports.list()]
    assert [finetune["id"] for finetune in client.finetunes.list()]
    (version,) = client.versions.list()
    assert client.versions.get(version["id"])["id"] == version["id"]


def test_names_on_a_disk_need_not_be_text(client: Client, tmp_path: Path) -> None:
    path = tmp_path / b"a\xff.wav".decode("utf-8", "surrogateescape")
    path.write_bytes(b"x")
    assert client.jobs.submit(path)["audio"]["filename"] == "a?.wav"
