"""``/v1/webhooks`` over HTTP: who may what, what is refused, what is shown."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from api.app import create_app
from db.models import DeliveryState, EventType
from db.queue.transaction import job_transaction
from db.session import Sessions
from db.settings import ApiKey, Settings
from tasks.runtime import Runtime
from tasks.webhooks import deliver
from tests.api.conftest import serving
from tests.tasks.fetch.server import WebServer, whole
from tests.tasks.fetch.server import serving as receiving
from tests.tasks.webhooks.receivers import deliveries_of, is_signed, received

ROOT = {"Authorization": "Bearer root"}
EVENTS = ["job.completed", "job.cancelled"]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    changes = {"webhook_private": ["127.0.0.0/8"], "api_keys": {"root": ApiKey(tenant="acme")}}
    return Settings.model_validate(settings.model_dump() | changes)


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    with serving(create_app(settings), settings) as opened:
        opened.headers.update(ROOT)
        yield opened


@pytest.fixture
def web() -> Iterator[WebServer]:
    with receiving() as server:
        server.routes["/hook"] = whole(b"")
        yield server


def make(client: httpx.Client, url: str = "https://hooks.example/in?token=t", **values: Any) -> dict[str, Any]:
    answer = client.post("/v1/webhooks", json={"url": url, "events": EVENTS} | values)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == f"/v1/webhooks/{answer.json()['id']}"
    return dict(answer.json())


def submit(
    client: httpx.Client, options: Mapping[str, Any] | None = None, *, code: int = 202, key: str | None = None
) -> dict[str, Any]:
    headers = {"Idempotency-Key": key} if key else {}
    answer = client.post(
        "/v1/jobs",
        json={"audio_url": "https://recordings.example/a.flac", "options": {**(options or {})}},
        headers=headers,
    )
    assert answer.status_code == code, answer.text
    return dict(answer.json())


def test_a_webhook_from_its_making_to_its_end(client: httpx.Client) -> None:
    made = make(client, description="of the studio", events=[*EVENTS, *EVENTS])
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert (made["events"], made["disabled"]) == (sorted(EVENTS), False)
    shown = client.get(f"/v1/webhooks/{made['id']}")
    listed = client.get("/v1/webhooks").json()["data"]
    assert shown.json() == made
    assert listed == [made]
    path = f"/v1/webhooks/{made['id']}"
    changed = client.patch(path, json={"disabled": True, "description": None}).json()
    assert (changed["disabled"], changed["disabled_reason"], changed["description"]) == (True, "request", None)
    assert changed["url"] == made["url"]
    assert client.post(f"{path}/test").json()["code"] == "webhook_disabled"
    changed = client.patch(path, json={"disabled": False, "url": "https://other.example/"}).json()
    assert (changed["disabled"], changed["disabled_at"], changed["url"]) == (False, None, "https://other.example/")
    rotated = client.post(f"{path}/rotate", json={"grace_seconds": 60}).json()
    assert rotated["secret"] not in (secret, None)
    assert client.get(path).json()["old_secret_ends_at"] is not None
    assert client.post(f"{path}/rotate", json={"grace_seconds": 0}).status_code == 201
    assert client.get(path).json()["old_secret_ends_at"] is None
    assert client.delete(path).status_code == 204
    for answer in (client.get(path), client.delete(path), client.get("/v1/webhooks/x")):
        assert (answer.status_code, answer.json()["code"]) == (404, "webhook_not_found")


NO_ADDRESSES = (
    "",
    "ftp://hooks.example/",
    "hooks.example/in",
    "https:///in",
    "https://user:secret@hooks.example/",
    "https://hooks.example/#part",
    "https://hooks.example/a b",
    "https://hooks.example/\x00",
    "https://hooks.example/\n",
    "https://[::1/",
    "https://hooks.example/" + "x" * 2000,
)


def test_what_is_no_address(client: httpx.Client) -> None:
    for url in NO_ADDRESSES:
        answer = client.post("/v1/webhooks", json={"url": url, "events": EVENTS})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), url
        assert submit(client, {"webhook": {"url": url}}, code=422)["code"] == "invalid_request", url


NO_CHANGES: tuple[dict[str, Any], ...] = (
    {"events": []},
    {"events": ["job.queued"]},
    {"events": ["webhook.test"]},
    {"url": None},
    {"events": None},
    {"disabled": None},
    {"secret": "mine"},
    {},
)


def test_what_is_no_change(client: httpx.Client) -> None:
    made = make(client)
    for body in NO_CHANGES:
        answer = client.patch(f"/v1/webhooks/{made['id']}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), body


def test_there_is_an_end_to_them(client: httpx.Client) -> None:
    for _ in range(20):
        make(client)
    answer = client.post("/v1/webhooks", json={"url": "https://hooks.example/", "events": EVENTS})
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_webhooks")


def test_the_address_of_a_job(
    client: httpx.Client, settings: Settings, sessions: Sessions, web: WebServer
) -> None:
    option = {"webhook": {"url": f"{web.url}/hook?token=hunter2"}}
    assert submit(client, option, code=409)["code"] == "webhook_secret_missing"
    body = {"file": ("talk.wav", b"RIFF", "audio/wav")}
    refused = client.post("/v1/jobs", data={"webhook": '{"url": "https://a.example/"}'}, files=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "webhook_secret_missing")
    secret = client.post("/v1/webhooks/secret").json()["secret"]
    job = submit(client, option, key="k")
    assert job["options"]["webhook"] == {"url": f"{web.url}/hook"}, "without what may be a credential"
    assert submit(client, option, key="k")["id"] == job["id"]
    other = {"webhook": {"url": "https://other.example/"}}
    assert submit(client, other, code=422, key="k")["code"] == "idempotency_key_reused"
    uploaded = client.post("/v1/jobs", data={"webhook": '{"url": "https://a.example/"}'}, files=body)
    assert uploaded.json()["options"]["webhook"] == {"url": "https://a.example/"}
    for field in ("{", "[" * 100_000, "1", '{"url": "https://a.example/", "events": []}'):
        answer = client.post("/v1/jobs", data={"webhook": field}, files=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_options"), field[:50]
    assert client.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200
    assert deliver.run(Runtime(settings)) == 1
    (message,) = received(web, secret)
    assert (message["type"], message["data"]["id"]) == ("job.cancelled", job["id"])
    assert web.paths == ["/hook?token=hunter2"]
    (shown,) = client.get(f"/v1/jobs/{job['id']}/deliveries").json()["data"]
    assert (shown["state"], shown["attempts"][0]["status"], shown["webhook_id"]) == ("delivered", 200, None)
    again = client.post(f"/v1/deliveries/{shown['id']}/redeliver")
    assert (again.status_code, again.json()["state"]) == (202, "waiting")
    assert deliver.run(Runtime(settings)) == 1
    assert len({headers["webhook-id"] for _, headers in web.asked}) == 1
    (shown,) = client.get(f"/v1/jobs/{job['id']}/deliveries").json()["data"]
    assert len(shown["attempts"]) == 2
    assert len(received(web, secret)) == 2


def test_deliveries_in_pages(client: httpx.Client, sessions: Sessions) -> None:
    made = make(client)
    path = f"/v1/webhooks/{made['id']}/deliveries"
    jobs = [submit(client)["id"] for _ in range(3)]
    for job_id in jobs:
        client.post(f"/v1/jobs/{job_id}/cancel")
    first = client.get(path, params={"limit": 2}).json()
    second = client.get(path, params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [row["job_id"] for row in first["data"] + second["data"]] == jobs[::-1]
    assert second["next_cursor"] is None
    (row,) = client.get(path, params={"job_id": jobs[1], "state": "waiting"}).json()["data"]
    assert (row["job_id"], row["type"], row["attempts"]) == (jobs[1], "job.cancelled", [])
    assert client.get(path, params={"state": "failed"}).json()["data"] == []
    assert client.get(path, params={"cursor": "x"}).json()["code"] == "invalid_cursor"
    client.patch(f"/v1/webhooks/{made['id']}", json={"disabled": True})
    refused = client.post(f"/v1/deliveries/{row['id']}/redeliver")
    assert (refused.status_code, refused.json()["code"]) == (409, "webhook_disabled")


def test_a_test(client: httpx.Client, settings: Settings, web: WebServer) -> None:
    made = make(client, f"{web.url}/hook")
    sent = client.post(f"/v1/webhooks/{made['id']}/test")
    assert (sent.status_code, sent.json()["state"]) == (202, "waiting")
    deliver.run(Runtime(settings))
    (message,) = received(web, made["secret"])
    assert (message["type"], message["data"]) == ("webhook.test", {"id": made["id"]})
    assert is_signed(web.asked[0][1], web.bodies[0], made["secret"])
    assert web.asked[0][1]["webhook-id"] == sent.json()["id"]


def test_a_webhooks_deliveries_are_for_admins(client: httpx.Client) -> None:
    """Also where somebody may write jobs."""
    made = make(client)
    sent = client.post(f"/v1/webhooks/{made['id']}/test").json()
    key = client.post("/v1/keys", json={"name": "ci", "scopes": ["jobs:read", "jobs:write"]}).json()["key"]
    writer = {"Authorization": f"Bearer {key}"}
    answer = client.post(f"/v1/deliveries/{sent['id']}/redeliver", headers=writer)
    assert (answer.status_code, answer.json()["code"]) == (404, "delivery_not_found")
    assert client.get("/v1/webhooks", headers=writer).status_code == 403
    assert client.post("/v1/webhooks/secret", headers=writer).status_code == 403
    missing = client.post(f"/v1/deliveries/{uuid.uuid4()}/redeliver", headers=writer)
    assert missing.json()["code"] == "delivery_not_found"


def test_a_deleted_job_is_told_to_have_been_cancelled(client: httpx.Client, sessions: Sessions) -> None:
    """Its row goes; what is on its way stays."""
    make(client)
    job_id = submit(client)["id"]
    client.delete(f"/v1/jobs/{job_id}")
    with job_transaction(sessions, uuid.UUID(job_id)) as tx:
        tx.session.delete(tx.job)
    (row,) = deliveries_of(sessions)
    assert (row.type, row.state) == (EventType.JOB_CANCELLED, DeliveryState.WAITING)
