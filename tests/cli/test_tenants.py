"""``longhand tenants`` against a real server."""

from __future__ import annotations

import httpx
import pytest
from typer.testing import CliRunner

from cli.main import app
from db.session import Sessions
from db.settings import Settings
from longhand import Client
from tests.api.conftest import client as client
from tests.jobs import make_job


def run(client: httpx.Client, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["tenants", *arguments, "--url", str(client.base_url)])
    return done.exit_code, done.output


def test_limits_are_set_shown_and_listed(client: httpx.Client, sessions: Sessions, settings: Settings) -> None:
    make_job(sessions, tenant="acme", bytes=3 * 2**30)
    make_job(sessions, tenant="default", bytes=512)
    code, said = run(
        client, "set", "acme", "--audio-hours-month", "100", "--jobs-at-once", "20", "--stored-bytes", "1.5T"
    )
    assert code == 0, said
    lines = {line.split()[0]: line.split() for line in said.splitlines() if line.strip()}
    assert lines["jobs_at_once"] == ["jobs_at_once", "1", "20", "own"]
    assert lines["stored_bytes"] == ["stored_bytes", "3.0", "GiB", "1.5", "TiB", "own"]
    assert lines["event_streams"] == ["event_streams", "-", "any", "default"]
    assert Client(str(client.base_url)).tenants.get("acme")["quotas"]["stored_bytes"]["limit"] == 1.5 * 2**40
    assert run(client, "set", "acme", "--jobs-at-once", "default", "--retain-audio-days", "7.5")[0] == 0
    code, said = run(client, "show", "acme")
    assert "retain_audio_days" in said
    assert "jobs_at_once" in said
    assert Client(str(client.base_url)).tenants.get("acme")["quotas"]["jobs_at_once"]["limit"] is None
    code, said = run(client, "list")
    assert "3.0 GiB / 1.5 TiB" in said
    code, said = run(client, "show")
    assert said.startswith("default")
    assert "512 B" in said


def test_rules_of_redaction_are_set_and_shown(client: httpx.Client) -> None:
    def rules() -> tuple[object, object]:
        tenant = Client(str(client.base_url)).tenants.get("acme")
        return tenant["redact"], tenant["keep_original"]

    code, said = run(client, "set", "acme", "--redact", "phone, email", "--keep-original", "no")
    assert (code, rules()) == (0, (["phone", "email"], False)), said
    assert ["redact", "phone,", "email", "own"] in [line.split() for line in said.splitlines()]
    assert ["keep_original", "no", "own"] in [line.split() for line in said.splitlines()]
    assert run(client, "set", "acme", "--redact", "none")[0] == 0
    assert rules() == ([], False)
    assert "redact" in run(client, "show", "acme")[1]
    assert run(client, "set", "acme", "--redact", "default", "--keep-original", "default")[0] == 0
    assert rules() == (None, None)
    code, said = run(client, "set", "acme", "--keep-original", "yes")
    assert code == 1
    assert "LONGHAND_SECRET_KEY" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["set", "acme"],
        ["set", "acme", "--jobs-at-once", "many"],
        ["set", "acme", "--redact", "names"],
        ["set", "acme", "--keep-original", "perhaps"],
    ],
)
def test_mistakes_are_told(client: httpx.Client, arguments: list[str]) -> None:
    code, said = run(client, *arguments)
    assert code != 0
    assert "Traceback" not in said
