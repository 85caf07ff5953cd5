"""The TypeScript client is generated from today's API, and works."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from api import openapi
from api.app import create_app
from db.models import EventType, Job
from db.session import Sessions
from db.settings import ApiKey, Settings
from tasks.steps import fetch
from tests.api.conftest import serving
from tests.media import DATA
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import HANDLERS, run_until_done
from tests.waiting import LIMIT_SECONDS, until

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "typescript"
SCRIPT = Path(__file__).with_name("typescript.mjs")
PAGES = (ROOT / "docs" / "client.md", CLIENT / "README.md")
EXAMPLES = [code for page in PAGES for code in re.findall(r"```ts\n(.*?)```", page.read_text(), re.DOTALL)]
SAID = "We met on Monday."
INSTALL_SECONDS = 90


def test_it_is_of_todays_api() -> None:
    said = (CLIENT / "openapi.json").read_text()
    assert said == openapi.text(create_app(Settings())), "run `make typescript`"
    digest = hashlib.sha256(said.encode()).hexdigest()
    assert digest in (CLIENT / "src" / "schema.ts").read_text(), "run `make typescript`"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the client with the packages of its lock; skips where they cannot be had."""
    if shutil.which("node") is None or (npm := shutil.which("npm")) is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("typescript") / "client"
    shutil.copytree(CLIENT, folder, ignore=shutil.ignore_patterns("node_modules", "dist"))
    command = [npm, "ci", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip("the packages do not come from the registry")
    if done.returncode:
        pytest.skip(f"the packages cannot be installed: {done.stderr.strip()[-200:]}")
    return folder


@pytest.fixture(scope="module")
def compiled(project: Path) -> Path:
    """Type-checked together with the examples of the manual, and made JavaScript of."""
    for number, example in enumerate(EXAMPLES):
        (project / "src" / f"example{number}.ts").write_text(example)
    _run(project, "npx", "--no-install", "tsc")
    shutil.copy(SCRIPT, project)
    return project


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_types_are_what_is_generated(project: Path) -> None:
    _run(project, "node", "generate.mjs", "again.ts")
    assert (project / "again.ts").read_text() == (CLIENT / "src" / "schema.ts").read_text()


def test_a_recording_becomes_a_transcript(compiled: Path, settings: Settings, sessions: Sessions) -> None:
    settings = settings.model_copy(update={"api_keys": {"root": ApiKey(tenant="default")}})
    file = DATA / "jfk.flac"
    with serving(create_app(settings), settings) as server:
        command = ["node", SCRIPT.name, str(server.base_url), "root", str(file)]
        running = subprocess.Popen(
            command, cwd=compiled, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            until(lambda: running.poll() is not None or _jobs(sessions) == 2)
            if running.poll() is None:
                run_until_done(FakeRuntime(settings, lambda _: SAID, lambda _: SAID), [fetch.handler, *HANDLERS])
            said, errors = running.communicate(timeout=LIMIT_SECONDS)
        finally:
            running.kill()  # an open stream would keep the server from stopping
    assert running.returncode == 0, errors
    told: dict[str, Any] = json.loads(said)
    assert told["refused"] == {"name": "ApiError", "status": 422, "code": "invalid_options"}
    assert (told["stranger"]["status"], told["stranger"]["code"]) == (401, "unauthorized")
    events = told["events"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert {event["type"] for event in events} <= set(EventType)
    assert events[-1]["type"] == "job.completed"
    assert told["rest"] == events[-1:]
    assert told["nothing"] == []
    assert told["stopped"] == 1
    assert told["aborted"]["name"] == "AbortError"
    assert told["listed"] == [told["resumed"], told["id"]]
    assert told["job"]["audio"]["filename"] == "b.flac"
    assert told["job"]["audio"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert told["segments"][0]["text"].startswith(SAID)
    assert SAID in told["subtitles"]
    assert told["cancelled"]["code"] == "job_finished"
    assert told["deleted"] is None


def _jobs(sessions: Sessions) -> int:
    with sessions() as session:
        return session.scalar(select(func.count(Job.id))) or 0


def test_a_broken_stream_goes_on(compiled: Path, broken_streams: tuple[str, list[str | None]]) -> None:
    url, asked = broken_streams
    events = json.loads(_run(compiled, "node", SCRIPT.name, url, ""))
    assert [(event["seq"], event["type"]) for event in events] == [
        (1, "job.started"),
        (2, "segment.final"),
        (3, "job.completed"),
    ]
    assert events[1]["data"] == {"text": "one\N{LINE SEPARATOR}line"}
    assert asked == ["0", "1", "2"]
