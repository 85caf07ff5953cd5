"""``/v1/tenants`` and ``/v1/quotas``: limits, what is used of them, and who may change them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import select

from db.models import StepKind, Tenant
from db.queue.claims import claim_steps
from db.session import Sessions
from db.settings import Settings
from tests.api.test_jobs import problem
from tests.jobs import add_chunks, make_job
from tests.waiting import until

WHOLE = {
    "audio_hours_month": 100.5,
    "stored_bytes": 10**12,
    "jobs_at_once": 20,
    "requests_per_minute": 600,
    "event_streams": 5,
    "uploads_at_once": 4,
    "steps_at_once": 8,
    "retain_audio_days": 30.0,
    "retain_transcript_days": 365.0,
    "retain_events_days": 7.0,
}


def limits(view: dict[str, Any]) -> dict[str, Any]:
    return {name: quota["limit"] for name, quota in view["quotas"].items() if quota["own"]}


def test_a_tenant_gets_limits_of_its_own(client: httpx.Client, sessions: Sessions) -> None:
    before = client.get("/v1/tenants/acme").json()
    assert (limits(before), before["updated_at"]) == ({}, None)
    put = client.put("/v1/tenants/acme", json=WHOLE)
    assert put.status_code == 200
    shown = client.get("/v1/tenants/acme").json()
    assert shown == put.json()
    assert {**limits(shown), **{name: shown[name] for name in WHOLE if name.startswith("retain")}} == WHOLE
    with sessions() as session:
        first = session.scalars(select(Tenant.revision)).one()
    changed = client.patch("/v1/tenants/acme", json={"jobs_at_once": 0, "stored_bytes": None}).json()
    expected = {n: v for n, v in WHOLE.items() if not n.startswith("retain")} | {"jobs_at_once": 0}
    del expected["stored_bytes"]
    assert limits(changed) == expected
    assert changed["retain_audio_days"] == 30
    with sessions() as session:
        assert session.scalars(select(Tenant.revision)).one() > first, "other processes learn of it"
    assert limits(client.put("/v1/tenants/acme", json={"event_streams": 1}).json()) == {"event_streams": 1}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"jobs_at_once": -1},
        {"jobs_at_once": 2**31},
        {"stored_bytes": 10**30},
        {"audio_hours_month": 1e300},
        {"steps_at_once": 0},
        {"retain_audio_days": 0},
        {"unknown": 1},
        {"jobs_at_once": "many"},
    ],
)
def test_absurd_limits_are_refused(client: httpx.Client, change: dict[str, Any]) -> None:
    answer = client.patch("/v1/tenants/acme", json=change)
    assert (answer.status_code, problem(answer)["code"]) == (422, "invalid_request")
    assert client.get("/v1/tenants/acme").json()["updated_at"] is None


def test_nan_is_no_limit(client: httpx.Client) -> None:
    answer = client.patch(
        "/v1/tenants/acme", content=b'{"audio_hours_month": NaN}', headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422


def test_what_is_used_stands_beside_what_is_allowed(
    client: httpx.Client, sessions: Sessions, settings: Settings
) -> None:
    job_id = make_job(sessions, bytes=700, duration=1800.0)
    add_chunks(sessions, make_job(sessions, bytes=300), 3)
    make_job(sessions, tenant="other", bytes=10**6)
    claim_steps(sessions, StepKind.DRAFT, 2, "tester", settings)
    client.put("/v1/tenants/default", json={"requests_per_minute": 1000, "event_streams": 3})
    until(lambda: "RateLimit-Limit" in client.get("/v1/jobs").headers, seconds=10)
    with client.stream("GET", f"/v1/jobs/{job_id}/events"):
        shown = client.get("/v1/quotas").json()
    assert shown["name"] == "default"
    used = {name: quota["used"] for name, quota in shown["quotas"].items()}
    requests = used.pop("requests_per_minute")
    assert 3 <= requests <= 100
    assert used == {
        "audio_hours_month": 0.5,
        "stored_bytes": 1000,
        "jobs_at_once": 2,
        "event_streams": 1,
        "uploads_at_once": None,
        "steps_at_once": 2,
    }
    assert client.get("/v1/tenants/default").json()["quotas"]["stored_bytes"] == shown["quotas"]["stored_bytes"]


def test_tenants_are_listed_page_by_page(client: httpx.Client) -> None:
    for name in ("c/d", "b", "a b", "é"):
        answer = client.put(f"/v1/tenants/{quote(name, safe='')}", json={"jobs_at_once": 1})
        assert answer.json()["name"] == name
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = client.get("/v1/tenants", params={"limit": 2, "after": after}).json()
        seen += [tenant["name"] for tenant in page["data"]]
        after = page["next_cursor"]
    assert seen == ["a b", "b", "c/d", "default", "é"]


class TestWhoMay:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"api_keys": {"root": "ops"}})

    def test_what_a_tenant_may_use_is_not_up_to_itself(self, client: httpx.Client) -> None:
        root = {"Authorization": "Bearer root"}

        def key(tenant: str, scope: str) -> dict[str, str]:
            wanted = {"name": "x", "tenant": tenant, "scopes": [scope]}
            made = client.post("/v1/keys", json=wanted, headers=root)
            return {"Authorization": f"Bearer {made.json()['key']}"}

        admin, reader, other = key("acme", "admin"), key("acme", "jobs:read"), key("globex", "admin")
        assert client.put("/v1/tenants/acme", json={"jobs_at_once": 2}, headers=root).status_code == 200
        for headers in (admin, reader):
            own = client.get("/v1/quotas", headers=headers)
            assert (own.json()["name"], own.json()["quotas"]["jobs_at_once"]["limit"]) == ("acme", 2)
        assert client.get("/v1/tenants/acme", headers=admin).json() == own.json()
        for method, body in (("PUT", {}), ("PATCH", {"jobs_at_once": 99})):
            for headers in (admin, other):
                answer = client.request(method, "/v1/tenants/acme", json=body, headers=headers)
                assert (answer.status_code, problem(answer)["code"]) == (403, "tenant_not_yours")
        assert problem(client.get("/v1/tenants/acme", headers=other))["code"] == "tenant_not_yours"
        for path in ("/v1/tenants", "/v1/tenants/acme"):
            assert problem(client.get(path, headers=reader))["code"] == "scope_missing"

        def listed(headers: dict[str, str]) -> list[str]:
            return [tenant["name"] for tenant in client.get("/v1/tenants", headers=headers).json()["data"]]

        assert listed(root) == ["acme", "globex", "ops"]
        assert listed(admin) == ["acme"]

    def test_tenants_with_keys_share_what_is_bounded(self, client: httpx.Client, settings: Settings) -> None:
        root = {"Authorization": "Bearer root"}

        def slots() -> int:
            return int(client.get("/v1/quotas", headers=root).json()["quotas"]["uploads_at_once"]["limit"])

        assert slots() == settings.max_uploads
        client.post("/v1/keys", json={"name": "x", "tenant": "acme", "scopes": ["admin"]}, headers=root)
        assert slots() == settings.max_uploads // 2
