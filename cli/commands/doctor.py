"""``longhand doctor``: what is broken, and what to do about it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import httpx
import typer
from pydantic import ValidationError
from rich.console import Group
from rich.text import Text

from cli.command import ExitCode, Failed, Output, Server, command, errors, table_of
from cli.stack.stack import environment_of
from db.settings import Settings, mistakes
from longhand import ApiError, Client, LonghandError, Unauthorized

app = typer.Typer()

STYLES = {"ok": "green", "warning": "yellow", "broken": "red"}
DIAGNOSIS_SECONDS = 300

Finding = Mapping[str, str]


@command(app)
def doctor(
    server: Server,
    data_dir: Annotated[Path | None, typer.Option(help="Of the local stack that is meant, if any runs.")] = None,
) -> Output:
    """Check servers, migrations, models, settings, disk, GPU, clocks, workers and the API; say what to do."""
    with errors.status("looking"):
        findings = [*_settings(data_dir), *_api(server)]
    table = table_of("", "check", "found")
    for found in findings:
        text = Text(found["found"]).append(f"\n{found['advice']}" if found["advice"] else "", style="bold")
        table.add_row(Text(found["state"], STYLES[found["state"]]), found["check"], text)
    count = sum(found["state"] == "broken" for found in findings)
    summary = f"{count} broken." if count else "Nothing is broken."
    code = ExitCode.FAILED if count else ExitCode.DONE
    return Output(findings, Group(table, summary), code)


def _settings(data_dir: Path | None) -> Iterator[Finding]:
    """What a worker with these settings finds, if they are valid."""
    try:
        settings = Settings()
    except ValidationError as error:
        for line in mistakes(error):
            yield _finding("settings", "broken", line, "docs/settings.md says what it takes.")
        return
    environment = os.environ | environment_of(data_dir or settings.data_dir)
    command_line = [sys.executable, "-m", "workers.diagnosis"]
    done = subprocess.run(  # noqa: S603  (our own command line)
        command_line, env=environment, capture_output=True, text=True, timeout=DIAGNOSIS_SECONDS, check=False
    )
    if done.returncode:
        raise Failed(f"The diagnosis ended early:\n{done.stderr[-2000:]}")
    yield from json.loads(done.stdout)


def _api(server: Server) -> Iterator[Finding]:
    """Whether the API is ready, and takes the key."""
    try:
        answer = httpx.get(f"{server.url}/readyz", timeout=10)
        down = [name for name, state in answer.json().get("checks", {}).items() if state != "ok"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        advice = "Start it (`longhand up`), or say where it is: --url, or LONGHAND_URL."
        yield _finding("api", "broken", f"{server.url} does not answer: {error}", advice)
        return
    if down or answer.is_error:
        yield _finding("api", "broken", f"{server.url} does not reach {', '.join(down)}", "See these above.")
    try:
        with Client(server.url, server.key, retries=0) as client:
            tenant = client.tenants.own()["name"]
        yield _finding("api", "ok", f"{server.url}, for the tenant {tenant}")
    except Unauthorized as error:
        yield _finding("api", "broken", error.detail, "Give a key: --key, or LONGHAND_KEY.")
    except LonghandError as error:
        advice = "Look at its log." if isinstance(error, ApiError) else ""
        yield _finding("api", "broken", str(error), advice)


def _finding(check: str, state: str, found: str, advice: str = "") -> Finding:
    return {"check": check, "state": state, "found": found, "advice": advice}
