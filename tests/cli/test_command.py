"""What all commands have in common: JSON, errors, exit codes, completion."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import typer.main
from typer.testing import CliRunner

from api.app import create_app
from cli.main import app
from db.session import Sessions
from db.settings import ApiKey, Settings
from tests.api.conftest import serving
from tests.jobs import make_job

WITHOUT_DATA = {"up", "backup", "restore", "verify", "calibrate", "pull", "export", "serve", "live"}
"""These show what programs print that they start."""


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    keys: dict[str, str | ApiKey] = {"root": ApiKey(tenant="house")}
    with serving(create_app(settings.model_copy(update={"api_keys": keys})), settings) as opened:
        yield opened


def commands(group: Any) -> Iterator[Any]:
    for command in group.commands.values():
        if hasattr(command, "commands"):
            yield from commands(command)
        else:
            yield command


def test_whatever_prints_data_prints_json() -> None:
    without = {
        command.name
        for command in commands(typer.main.get_command(app))
        if not any("--json" in parameter.opts for parameter in command.params)
    }
    assert without <= WITHOUT_DATA


def test_data_and_errors_are_json(client: httpx.Client, sessions: Sessions) -> None:
    job = str(make_job(sessions, tenant="house"))

    def run(*arguments: str, key: str = "root") -> tuple[int, str, str]:
        done = CliRunner().invoke(app, [*arguments, "--json", "--url", str(client.base_url), "--key", key])
        return done.exit_code, done.stdout, done.stderr

    code, said, _ = run("jobs")
    assert (code, json.loads(said)[0]["id"]) == (0, job)
    code, said, _ = run("cancel", job)
    assert (code, json.loads(said)["status"]) == (0, "cancelled")
    code, said, _ = run("watch", job)
    assert code == 1
    assert [json.loads(line)["type"] for line in said.splitlines()][-1] == "job.cancelled"
    assert json.loads(run("transcript", job)[1])["segments"] == []
    code, said, complaint = run("cancel", "nothing")
    assert (code, said, json.loads(complaint)["error"]["status"]) == (1, "", 404)
    code, _, complaint = run("jobs", key="wrong")
    assert (code, json.loads(complaint)["error"]["code"]) == (4, "unauthorized")
    assert run("erase", "--voice", "Ada")[0] == 1


def test_shells_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"_LONGHAND_COMPLETE": "complete_bash", "COMP_WORDS": "longhand trans", "COMP_CWORD": "1"}
    done = CliRunner().invoke(app, [], env=environment, prog_name="longhand")
    assert done.output.split() == ["transcribe", "transcript", "transcripts", "translate"]
