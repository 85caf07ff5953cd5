"""``/metrics`` of the API: the queue, and requests by the templates of their routes; for who runs the server."""

from __future__ import annotations

import uuid

import httpx

from api.app import create_app
from db.access import keys
from db.models import Priority, Scope
from db.session import Sessions
from db.settings import Settings
from tests.api.conftest import serving
from tests.jobs import make_job

TOKEN = "a-token-that-is-long-enough"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_the_queue_and_requests(client: httpx.Client, sessions: Sessions) -> None:
    make_job(sessions)
    assert client.get(f"/v1/jobs/{uuid.uuid4()}").status_code == 404
    assert client.get("/nowhere/at/all").status_code == 404
    answer = client.get("/metrics")
    assert answer.status_code == 200
    lines = answer.text.splitlines()
    assert 'longhand_queue_waiting_steps{kind="ingest"} 1.0' in lines
    assert 'longhand_queue_waiting_steps{kind="deliver"} 0.0' in lines
    assert 'longhand_jobs{priority="normal",status="queued",tenant_class="standard"} 1.0' in lines
    (age,) = [line for line in lines if line.startswith('longhand_queue_oldest_age_seconds{kind="ingest"}')]
    assert float(age.split()[-1]) > 0
    counted = 'longhand_http_requests_total{code="404",method="GET",route="/v1/jobs/{job_id}"}'
    assert any(line.startswith(counted) for line in lines)
    assert "nowhere" not in answer.text


def test_who_may_read_it(settings: Settings, sessions: Sessions) -> None:
    guarded = settings.model_copy(update={"api_keys": {"operator": "default"}, "metrics_token": TOKEN})
    with sessions.begin() as session:
        _, stranger = keys.create(
            session,
            tenant="acme",
            name="admin",
            scopes=[Scope.ADMIN],
            max_priority=Priority.NORMAL,
            expires_at=None,
        )
    with serving(create_app(guarded), guarded) as client:
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers=bearer("wrong")).status_code == 401
        refused = client.get("/metrics", headers=bearer(stranger))
        assert (refused.status_code, refused.json()["code"]) == (403, "operator_only")
        for good in (TOKEN, "operator"):
            assert client.get("/metrics", headers=bearer(good)).status_code == 200
        # it opens nothing else
        assert client.get("/v1/jobs", headers=bearer(TOKEN)).status_code == 401


def test_while_postgres_is_away(settings: Settings) -> None:
    away = settings.model_copy(
        update={"database_url": "postgresql+psycopg://nobody@127.0.0.1:1/none", "metrics_token": TOKEN}
    )
    with serving(create_app(away), away) as client:
        answer = client.get("/metrics", headers=bearer(TOKEN))
    assert answer.status_code == 200
    assert "longhand_database_readable 0.0" in answer.text.splitlines()
