"""The audit log: no change without its entry, no content in any, and no flood that fills it."""

from __future__ import annotations

import csv
import io
import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy import delete, insert, make_url, select, text
from sqlalchemy.exc import ProgrammingError
from typer.testing import CliRunner

from api.access import refusals
from api.access.refusals import Refusals, Refused, network_of
from api.app import create_app
from cli.main import app as command_line
from db.access import audit
from db.models import AuditEntry
from db.session import Sessions
from db.settings import Settings
from tasks.maintenance import retention
from tests.api.conftest import serving
from tests.api.test_jobs import problem
from tests.jobs import make_job
from tests.tasks.fakes import FakeRuntime
from tests.waiting import until

ONE = {"Authorization": "Bearer k1"}
TWO = {"Authorization": "Bearer k2"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    changes = {"api_keys": {"k1": "one", "k2": "two"}, "training_tenants": ["*"]}
    return settings.model_copy(update=changes)


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    with serving(create_app(settings), settings) as opened:
        yield opened


def upload(client: httpx.Client, name: str = "talk.mp3", body: bytes = b"sound", **fields: str) -> httpx.Response:
    return client.post("/v1/jobs", files={"file": (name, body)}, data=fields, headers=ONE)


def entries(sessions: Sessions) -> list[AuditEntry]:
    with sessions() as session:
        return list(session.scalars(select(AuditEntry).order_by(AuditEntry.id)))


def recorded(sessions: Sessions, action: str) -> AuditEntry | None:
    return next((entry for entry in entries(sessions) if entry.action == action), None)


def test_every_operation_that_changes_something_leaves_a_row(client: httpx.Client, sessions: Sessions) -> None:
    """Also one that is refused, or finds nothing: what is seen here is that no route can forget it."""
    paths: dict[str, dict[str, Any]] = client.get("/openapi.json").json()["paths"]
    walked = 0
    for template, operations in paths.items():
        for method in {name.upper() for name in operations} - {"GET", "HEAD", "OPTIONS"}:
            target = str(uuid.uuid4())
            path = re.sub(r"\{[^}]+\}", target, template)
            answer = client.request(method, path, json={}, headers=ONE)
            assert answer.status_code not in (401, 403, 405), (method, template)
            # read at once: the row is committed before the answer
            last = entries(sessions)[-1]
            assert (last.action, last.status) == (f"{method} {template}", answer.status_code)
            assert (last.tenant, last.actor, last.address) == ("one", "environment", "127.0.0.1")
            assert last.target == target or "{" not in template
            walked += 1
    assert walked >= 13


def test_a_job_from_its_upload_to_its_deletion(
    client: httpx.Client, sessions: Sessions, settings: Settings
) -> None:
    secret = "what-nobody-may-read"
    job = upload(client, f"{secret}.flac", secret.encode(), source=secret).json()
    path = f"/v1/jobs/{job['id']}"
    client.get(path, headers=ONE)
    client.get(f"{path}/transcript?format=txt&{secret}=1", headers=ONE)
    client.get(f"{path}/audio", headers=ONE)
    client.get(f"{path}/transcript", headers=TWO)
    client.delete(path, headers=ONE)
    until(lambda: recorded(sessions, "GET /v1/jobs/{job_id}/audio"), seconds=20)
    rows = entries(sessions)
    assert {(row.tenant, row.action, row.target, row.status) for row in rows} == {
        ("one", "POST /v1/jobs", job["id"], 202),
        ("one", "GET /v1/jobs/{job_id}/transcript", job["id"], 200),
        ("one", "GET /v1/jobs/{job_id}/audio", job["id"], 307),
        ("two", "GET /v1/jobs/{job_id}/transcript", job["id"], 404),
        ("one", "DELETE /v1/jobs/{job_id}", job["id"], 204),
    }
    written = json.dumps([[str(value) for value in vars(row).values()] for row in rows])
    assert secret not in written
    assert "Signature" not in written


def test_what_a_client_puts_into_a_path_is_kept_short_and_harmless(
    client: httpx.Client, sessions: Sessions
) -> None:
    client.delete(f"/v1/jobs/%00%ff{'x' * 3000}", headers=ONE)
    target = entries(sessions)[-1].target
    assert target is not None
    assert len(target) == 200
    assert "\x00" not in target


class TestRefusals:
    def test_a_flood_of_bad_keys_leaves_two_rows(
        self, client: httpx.Client, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(60):
            bad = {"Authorization": f"Bearer bad-{number}"}
            assert client.get(f"/v1/jobs/{number}", headers=bad).status_code in (401, 429)
        until(lambda: recorded(sessions, "refused"), seconds=20)
        # the minute passes
        monkeypatch.setattr(refusals, "WINDOW_SECONDS", 0.0)
        until(lambda: sum(row.count for row in entries(sessions)) == 60, seconds=20)
        rows = entries(sessions)
        assert len(rows) <= 4
        assert {(row.tenant, row.actor, row.address) for row in rows} == {(None, "unknown", "127.0.0.1")}

    def test_many_addresses_are_counted_together(self) -> None:
        now = 0.0
        counted = Refusals(clock=lambda: now)
        for number in range(5000):
            counted.add(Refused(None, "unknown", None, f"10.0.{number // 256}.{number % 256}", 401))
        first = list(counted.due())
        assert len(first) == refusals.MAX_COUNTED + 1
        assert sum(entry.count for entry in first) == 5000
        assert list(counted.due()) == []
        counted.add(Refused(None, "unknown", None, "10.0.0.1", 401))
        assert list(counted.due()) == []
        now = 61.0
        assert [(entry.address, entry.count) for entry in counted.due()] == [("10.0.0.1", 1)]

    def test_one_holder_of_many_addresses_is_one(self) -> None:
        assert network_of("2001:db8:1:2:3::1") == network_of("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
        assert network_of("192.0.2.7") == "192.0.2.7"


class TestAddresses:
    def test_nobody_is_believed_about_whom_they_speak_for(self, client: httpx.Client, sessions: Sessions) -> None:
        client.delete(f"/v1/jobs/{uuid.uuid4()}", headers={**ONE, "X-Forwarded-For": "198.51.100.9"})
        assert entries(sessions)[-1].address == "127.0.0.1"

    def test_a_configured_proxy_is(self, settings: Settings, sessions: Sessions) -> None:
        trusting = Settings.model_validate(settings.model_dump() | {"trusted_proxies": ["127.0.0.0/8"]})
        with serving(create_app(trusting), trusting) as client:
            # the last that the proxy itself saw, not what the client claims
            forwarded = {"X-Forwarded-For": "203.0.113.5, 198.51.100.9"}
            client.delete(f"/v1/jobs/{uuid.uuid4()}", headers={**ONE, **forwarded})
        assert entries(sessions)[-1].address == "198.51.100.9"


class TestReading:
    @pytest.fixture
    def filled(self, sessions: Sessions) -> datetime:
        start = datetime(2026, 3, 1, tzinfo=UTC)
        rows = [
            {
                "at": start + timedelta(hours=number),
                "tenant": "two" if number % 3 == 2 else "one",
                "actor": "=ci lh_ab" if number % 2 else "desk lh_cd",
                "action": "DELETE /v1/jobs/{job_id}" if number % 2 else "GET /v1/jobs/{job_id}/audio",
                "target": str(number),
                "status": 200,
            }
            for number in range(30)
        ]
        stranger = {"at": start, "tenant": None, "actor": "unknown", "action": "refused", "target": None}
        with sessions.begin() as session:
            session.execute(insert(AuditEntry), rows)
            session.execute(insert(AuditEntry).values(**stranger, status=401))
        return start

    def test_pages_of_the_own_tenant(self, client: httpx.Client, filled: datetime) -> None:
        found: list[str] = []
        parameters: dict[str, Any] = {"limit": 7, "to": (filled + timedelta(days=9)).isoformat()}
        while True:
            page = client.get("/v1/audit", params=parameters, headers=ONE).json()
            found += [entry["target"] for entry in page["data"]]
            if page["next_cursor"] is None:
                break
            parameters["cursor"] = page["next_cursor"]
        # the stranger's entry belongs to nobody; a key of the environment is the operator's
        assert found == [None, *(str(number) for number in reversed(range(30)) if number % 3 != 2)]

    def test_filters(self, client: httpx.Client, filled: datetime) -> None:
        def targets(**wanted: Any) -> set[str]:
            data = client.get("/v1/audit", params={"limit": 1000} | wanted, headers=TWO).json()["data"]
            return {entry["target"] for entry in data if entry["tenant"] == "two" and entry["key_id"] is None}

        every = {str(number) for number in range(2, 30, 3)}
        assert targets(to="2026-04-01T00:00:00Z") == every
        assert targets(actor="desk") == {number for number in every if int(number) % 2 == 0}
        assert targets(actor="%") == set()
        assert targets(action="DELETE") == {number for number in every if int(number) % 2}
        assert targets(target="5") == {"5"}
        between = {"from": "2026-03-01T05:00:00Z", "to": "2026-03-01T11:00:00+00:00"}
        assert targets(**between) == {"5", "8"}

    def test_as_csv(self, client: httpx.Client, filled: datetime) -> None:
        answer = client.get("/v1/audit?format=csv&limit=5&to=2026-04-01T00:00:00Z", headers=ONE)
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert [row["target"] for row in rows] == ["", "28", "27", "25", "24"]
        # no formula for a spreadsheet
        assert rows[2]["actor"] == "'=ci lh_ab"
        following = client.get(answer.links["next"]["url"], headers=ONE)
        assert next(csv.DictReader(io.StringIO(following.text)))["target"] == "22"

    @pytest.mark.parametrize("cursor", ["x", "-1", "9" * 19, "٣"])
    def test_cursors_are_checked(self, client: httpx.Client, cursor: str) -> None:
        answer = client.get("/v1/audit", params={"cursor": cursor}, headers=ONE)
        assert (answer.status_code, problem(answer)["code"]) == (400, "invalid_cursor")

    def test_from_the_command_line(self, client: httpx.Client, filled: datetime) -> None:
        server = ["--url", str(client.base_url), "--key", "k1"]
        shown = CliRunner().invoke(command_line, ["audit", "--action", "DELETE", "--limit", "3", *server])
        assert shown.exit_code == 0, shown.output
        assert shown.output.count("DELETE") == 3
        written = CliRunner().invoke(command_line, ["audit", "--csv", "--action", "DELETE", *server])
        assert written.output.count("DELETE") == 10
        assert written.output.count("address") == 1


class TestKeeping:
    def test_nothing_is_ever_changed_or_removed(self, settings: Settings, sessions: Sessions) -> None:
        with sessions.begin() as session:
            audit.note(session, "one", "retention", "delete job", "x")
        url = make_url(settings.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
        for statement in (b"UPDATE audit SET actor = 'nobody'", b"DELETE FROM audit", b"TRUNCATE audit"):
            with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
        with sessions() as session, pytest.raises(ProgrammingError):
            session.execute(delete(AuditEntry))
        assert len(entries(sessions)) == 1

    def test_upkeep_removes_what_is_past_its_days(self, settings: Settings, sessions: Sessions) -> None:
        now = datetime.now(UTC)
        with sessions.begin() as session:
            for days in (1, 29, 31, 500):
                values = {"at": now - timedelta(days=days), "actor": "x", "action": "y", "target": str(days)}
                session.execute(insert(AuditEntry).values(values))
        runtime = FakeRuntime(settings.model_copy(update={"audit_days": 30}), str, str)
        retention.delete_old_audit_entries(runtime)
        assert [entry.target for entry in entries(sessions)] == ["1", "29"]
        for_ever = FakeRuntime(settings.model_copy(update={"audit_days": None}), str, str)
        retention.delete_old_audit_entries(for_ever)
        assert len(entries(sessions)) == 2

    def test_a_change_that_cannot_be_recorded_is_not_confirmed(
        self, client: httpx.Client, settings: Settings, sessions: Sessions
    ) -> None:
        job = upload(client).json()["id"]
        url = make_url(settings.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER TABLE audit RENAME TO away")
            answer = client.post(f"/v1/jobs/{job}/cancel", headers=ONE)
            assert (answer.status_code, problem(answer)["code"]) == (503, "unavailable")
            # an error stays the error that it is
            assert client.post(f"/v1/jobs/{uuid.uuid4()}/cancel", headers=ONE).status_code == 404
            connection.execute("ALTER TABLE away RENAME TO audit")
        assert client.post(f"/v1/jobs/{job}/cancel", headers=ONE).status_code == 200

    def test_retention_says_what_it_deleted(self, settings: Settings, sessions: Sessions) -> None:
        job = make_job(sessions, tenant="one", options={"retain_days": 1})
        with sessions.begin() as session:
            session.execute(text("UPDATE jobs SET completed_at = now() - interval '2 days', status = 'cancelled'"))
        retention.erase_expired(FakeRuntime(settings, str, str))
        (entry,) = entries(sessions)
        assert (entry.tenant, entry.actor, entry.action, entry.target) == (
            "one",
            "retention",
            "delete job",
            str(job),
        )
