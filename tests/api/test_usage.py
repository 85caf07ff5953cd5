"""``/v1/usage`` on a real server: sums, groups, bounds, CSV, and who may see what."""

from __future__ import annotations

import csv
import io
import uuid
from datetime import UTC, date, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import event, text

from api.app import create_app
from api.routes import usage as route
from db.access.usage import Grouping, Span, report
from db.models import Job, StoredKey, UsageRecord
from db.session import Sessions
from db.settings import Settings
from tests.api.conftest import serving

KEY = uuid.uuid4()
FIRST_JOB, SECOND_JOB = uuid.uuid4(), uuid.uuid4()
ROOT = {"Authorization": "Bearer root"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"api_keys": {"root": "default"}})


@pytest.fixture
def client(client: httpx.Client) -> httpx.Client:
    client.headers.update(ROOT)
    return client


def used(day: int, stage: str, seconds: float, **values: Any) -> UsageRecord:
    defaults = {"tenant": "default", "job_id": FIRST_JOB, "at": datetime(2026, 3, day, 12, tzinfo=UTC), "bytes": 0}
    return UsageRecord(stage=stage, audio_seconds=seconds, **defaults | values)


@pytest.fixture
def rows(sessions: Sessions) -> None:
    whisper = {"engine": "whisper", "model": "large-v3"}
    with sessions.begin() as session:
        session.add(
            StoredKey(id=KEY, tenant="default", name="=ci", prefix="lh_abc", digest=b"1", scopes=["jobs:read"])
        )
        session.add_all(
            [
                used(1, "upload", 60.0, bytes=1000),
                used(1, "refine", 50.0, **whisper),
                # the last instant of a day, and the first of the next
                used(1, "refine", 5.0, **whisper, at=datetime(2026, 3, 1, 23, 59, 59, 999999, UTC)),
                used(2, "refine", 7.5, **whisper, job_id=SECOND_JOB, at=datetime(2026, 3, 2, tzinfo=UTC)),
                used(2, "upload", 30.0, job_id=SECOND_JOB, bytes=500, key_id=KEY),
                used(2, "upload", 999.0, tenant="other", bytes=1),
                used(31, "draft", 3.0, engine="sensevoice-onnx", model="small"),
            ]
        )


def ask(client: httpx.Client, **parameters: Any) -> Any:
    answer = client.get("/v1/usage", params={"from": "2026-03-01", "to": "2026-03-31"} | parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_days(client: httpx.Client, rows: None) -> None:
    report = ask(client)
    assert (report["from"], report["to"], report["group_by"]) == ("2026-03-01", "2026-03-31", ["day"])
    assert report["data"] == [
        {"day": "2026-03-01", "stage": "refine", "jobs": 1, "audio_seconds": 55.0, "bytes": 0},
        {"day": "2026-03-01", "stage": "upload", "jobs": 1, "audio_seconds": 60.0, "bytes": 1000},
        {"day": "2026-03-02", "stage": "refine", "jobs": 1, "audio_seconds": 7.5, "bytes": 0},
        {"day": "2026-03-02", "stage": "upload", "jobs": 1, "audio_seconds": 30.0, "bytes": 500},
        {"day": "2026-03-31", "stage": "draft", "jobs": 1, "audio_seconds": 3.0, "bytes": 0},
    ]
    assert [row["day"] for row in ask(client, **{"from": "2026-03-02", "to": "2026-03-02"})["data"]] == [
        "2026-03-02"
    ] * 2


def test_stages_models_and_keys(client: httpx.Client, rows: None) -> None:
    assert ask(client, group_by="stage")["data"] == [
        {"stage": "draft", "jobs": 1, "audio_seconds": 3.0, "bytes": 0},
        {"stage": "refine", "jobs": 2, "audio_seconds": 62.5, "bytes": 0},
        {"stage": "upload", "jobs": 2, "audio_seconds": 90.0, "bytes": 1500},
    ]
    by_model = {
        (row["engine"], row["model"]): row["audio_seconds"] for row in ask(client, group_by="model")["data"]
    }
    assert by_model == {("sensevoice-onnx", "small"): 3.0, ("whisper", "large-v3"): 62.5, (None, None): 90.0}
    (with_key,) = [row for row in ask(client, group_by="key")["data"] if row["key_id"]]
    assert with_key == {
        "key_id": str(KEY),
        "key": "=ci",
        "prefix": "lh_abc",
        "stage": "upload",
        "jobs": 1,
        "audio_seconds": 30.0,
        "bytes": 500,
    }
    both = ask(client, group_by=["key", "day", "day"])
    assert both["group_by"] == ["day", "key"]
    assert {"day", "key_id", "key", "prefix", "stage"} < set(both["data"][0])


def test_csv(client: httpx.Client, rows: None) -> None:
    answers = [
        client.get("/v1/usage?from=2026-03-01&to=2026-03-31&group_by=key&format=csv"),
        client.get(
            "/v1/usage?from=2026-03-01&to=2026-03-31&group_by=key", headers={"Accept": "text/csv;q=0.9, */*;q=0.1"}
        ),
    ]
    for answer in answers:
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert "usage-2026-03-01-2026-03-31.csv" in answer.headers["content-disposition"]
        table = list(csv.reader(io.StringIO(answer.text)))
        assert table[0] == ["key_id", "key", "prefix", "stage", "jobs", "audio_seconds", "bytes"]
        # no spreadsheet takes a name for a formula
        assert [str(KEY), "'=ci", "lh_abc", "upload", "1", "30.0", "500"] in table
        assert len(table) == 5
    as_json = client.get("/v1/usage?format=json", headers={"Accept": "text/csv"})
    assert as_json.json()["data"] == []


@pytest.mark.parametrize(
    "query",
    [
        "from=2026-03-02&to=2026-03-01",
        "from=2025-01-01&to=2026-03-01",
        "from=yesterday",
        "to=9999-12-31",
        "group_by=colour",
        "tenant=a%00b",
        "format=xml",
        "&".join(["group_by=day"] * 9),
    ],
)
def test_what_is_no_span_or_group_is_refused(client: httpx.Client, query: str) -> None:
    answer = client.get(f"/v1/usage?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize(
    "query", ["", "from=0001-01-01&to=0001-01-01", "from=9998-12-31&to=9998-12-31", "from=9998-12-31"]
)
def test_days_at_the_ends_of_the_calendar(client: httpx.Client, query: str) -> None:
    assert client.get(f"/v1/usage?{query}").json()["data"] == []


def test_the_number_of_rows_is_bounded(client: httpx.Client, rows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "MAX_ROWS", 5)
    assert len(ask(client)["data"]) == 5
    monkeypatch.setattr(route, "MAX_ROWS", 4)
    answer = client.get("/v1/usage?from=2026-03-01&to=2026-03-31")
    assert (answer.status_code, answer.json()["code"]) == (422, "usage_too_large")


def test_a_tenant_sees_its_own(settings: Settings, rows: None) -> None:
    keys = settings.model_copy(update={"api_keys": {"one": "default", "two": "other"}})
    with serving(create_app(keys), keys) as client:
        query = "/v1/usage?from=2026-03-01&to=2026-03-31&group_by=stage"
        assert client.get(query).status_code == 401
        (row,) = client.get(query, headers={"Authorization": "Bearer two"}).json()["data"]
        assert row == {"stage": "upload", "jobs": 1, "audio_seconds": 999.0, "bytes": 1}
        # keys of the environment have all scopes
        of_another = client.get(f"{query}&tenant=other", headers={"Authorization": "Bearer one"}).json()["data"]
        assert of_another == [row]


def test_another_tenants_usage_is_for_who_runs_the_server(client: httpx.Client) -> None:
    def status(tenant: str, key: dict[str, str]) -> int:
        return client.get("/v1/usage", params={"tenant": tenant}, headers=key).status_code

    reader, admin, writer = (made(client, scope)[1] for scope in ("jobs:read", "admin", "jobs:write"))
    assert [status("default", key) for key in (ROOT, reader, admin, writer)] == [200, 200, 200, 403]
    assert [status("other", key) for key in (ROOT, reader, admin, writer)] == [200, 403, 403, 403]


def made(client: httpx.Client, scope: str) -> tuple[str, dict[str, str]]:
    """The id of a new key, and the header that it is sent in."""
    key = client.post("/v1/keys", json={"name": "ci", "scopes": [scope]}, headers=ROOT).json()
    return key["id"], {"Authorization": f"Bearer {key['key']}"}


def test_jobs_name_the_key_that_made_them(settings: Settings, sessions: Sessions) -> None:
    settings = settings.model_copy(update={"training_tenants": ["*"]})
    with serving(create_app(settings), settings) as client:
        key_id, headers = made(client, "admin")
        file = {"file": ("a.flac", b"sound", "audio/flac")}
        answers = [
            client.post("/v1/jobs", files=file, headers=headers),
            client.post("/v1/voices", files=file, data={"name": "Ada"}, headers=headers),
            client.post("/v1/exports", json={}, headers=headers),
        ]
    assert [answer.status_code for answer in answers] == [202, 202, 202], answers
    with sessions() as session:
        assert [str(job.key_id) for job in session.query(Job)] == [key_id] * 3


def test_the_query_reads_its_tenants_days_alone(sessions: Sessions) -> None:
    """By an index, in a table with rows of many tenants and days."""
    fill = text("""
        INSERT INTO usage (tenant, job_id, stage, audio_seconds, at)
        SELECT 'tenant' || n % 50, gen_random_uuid(), 'refine', 1,
               timestamptz '2026-01-01 UTC' + n * interval '5 min'
        FROM generate_series(1, 20000) n
    """)
    with sessions.begin() as session:
        session.execute(fill)
        session.execute(text("ANALYZE usage"))
    sent: list[tuple[str, Any]] = []
    engine = sessions.kw["bind"]
    event.listen(engine, "before_cursor_execute", lambda *of: sent.append((of[2], of[3])))
    with sessions() as session:
        found = report(session, "tenant7", Span(date(2026, 2, 1), date(2026, 2, 2)), [Grouping.DAY], 10)
        assert [row["audio_seconds"] for row in found] == [6, 5]
        ((statement, parameters),) = sent
        plan = session.connection().exec_driver_sql(f"EXPLAIN {statement}", parameters)
        assert "ix_usage" in "".join(row[0] for row in plan)
