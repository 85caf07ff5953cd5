"""``longhand usage`` against a real server."""

from __future__ import annotations

import csv
import io
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from api.app import create_app
from cli.main import app
from db.models import UsageRecord
from db.session import Sessions
from db.settings import Settings
from tests.api.conftest import serving


@pytest.fixture
def usage(settings: Settings, sessions: Sessions, request: pytest.FixtureRequest) -> Result:
    """What the command prints with these arguments, of a month with one job."""
    job: dict[str, Any] = {"tenant": "default", "job_id": uuid.uuid4(), "at": datetime(2026, 3, 5, tzinfo=UTC)}
    with sessions.begin() as session:
        session.add(UsageRecord(**job, stage="upload", audio_seconds=5400.25, bytes=7_500_000))
        session.add(UsageRecord(**job, stage="refine", audio_seconds=3600, engine="whisper", model="large-v3"))
    with serving(create_app(settings), settings) as client:
        return CliRunner().invoke(app, ["usage", "--url", str(client.base_url), *request.param])


MARCH = ["--from", "2026-03-01", "--to", "2026-03-31"]


@pytest.mark.parametrize("usage", [[*MARCH, "-g", "model", "-g", "day"]], indirect=True)
def test_a_table(usage: Result) -> None:
    lines = [line.split() for line in usage.output.splitlines()]
    assert lines == [
        ["day", "engine", "model", "stage", "jobs", "hours", "MB"],
        ["2026-03-05", "whisper", "large-v3", "refine", "1", "1.000", "-"],
        ["2026-03-05", "-", "-", "upload", "1", "1.500", "7.5"],
    ]


@pytest.mark.parametrize("usage", [[*MARCH, "--group-by", "stage", "--csv"]], indirect=True)
def test_csv(usage: Result) -> None:
    assert list(csv.reader(io.StringIO(usage.stdout))) == [
        ["stage", "jobs", "audio_seconds", "bytes"],
        ["refine", "1", "3600.0", "0"],
        ["upload", "1", "5400.25", "7500000"],
    ]


@pytest.mark.parametrize("usage", [["--group-by", "colour"]], indirect=True)
def test_what_the_server_refuses_is_said(usage: Result) -> None:
    assert usage.exit_code == 1
    assert "group_by.0" in usage.output
