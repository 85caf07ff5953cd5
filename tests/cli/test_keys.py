"""``longhand keys`` against a server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from api.app import create_app
from cli.main import app
from cli.stack.process import free_port
from db.settings import ApiKey, Settings
from tests.api.conftest import serving
from tests.cli.test_up import LONGHAND
from tests.conftest import environment_of
from tests.waiting import LIMIT_SECONDS, until


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    keys: dict[str, str | ApiKey] = {"root": ApiKey(tenant="house", max_priority="high")}
    with serving(create_app(settings.model_copy(update={"api_keys": keys})), settings) as opened:
        yield opened


def run(client: httpx.Client, *arguments: str, code: int = 0) -> str:
    given = [*arguments, "--url", str(client.base_url), "--key", "root"]
    done = CliRunner().invoke(app, ["keys", *given])
    assert done.exit_code == code, done.output
    return done.output.strip()


def status(client: httpx.Client, key: str) -> int:
    return client.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"}).status_code


def test_a_key_from_its_making_to_its_end(client: httpx.Client) -> None:
    key = run(
        client,
        *("create", "--tenant", "acme", "--name", "ci", "--scopes", "jobs:read,jobs:write"),
        *("--expires", "90d", "--priority", "high"),
    )
    assert status(client, key) == 200
    (row,) = client.get("/v1/keys", headers={"Authorization": "Bearer root"}).json()["data"]
    assert (row["tenant"], row["scopes"], row["max_priority"]) == ("acme", ["jobs:read", "jobs:write"], "high")
    assert row["expires_at"] is not None
    rotated = run(client, "rotate", row["id"])
    assert (status(client, key), status(client, rotated)) == (401, 200)
    for listed in client.get("/v1/keys", headers={"Authorization": "Bearer root"}).json()["data"]:
        run(client, "revoke", listed["id"])
    assert status(client, rotated) == 401
    assert "key_ended" in run(client, "rotate", row["id"], code=1)


@pytest.mark.parametrize("name", ["[/red]", "[bold]ci", "a [link=x]"])
def test_names_are_shown_as_they_are(client: httpx.Client, name: str) -> None:
    key = run(client, "create", "--name", name)
    shown = run(client, "list")
    assert name in shown
    assert key[:11] in shown
    assert key not in shown


@pytest.mark.parametrize("expires", ["soon", "90", "-1d", "1y"])
def test_a_duration_that_is_none(client: httpx.Client, expires: str) -> None:
    assert "is no duration" in run(client, "create", "--name", "ci", f"--expires={expires}", code=2)


@contextmanager
def public_api(settings: Settings, folder: Path) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    """An API on every address, whose keys are in a database that runs elsewhere."""
    port = free_port()
    parts = ["--only", "api", "--host", "0.0.0.0", "--api-port", str(port), "--data-dir", str(folder)]
    environment = os.environ | environment_of(settings)
    with subprocess.Popen([str(LONGHAND), "up", *parts], env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
                yield client, process
        finally:
            process.terminate()


def test_what_others_reach_may_have_its_keys_in_the_database(settings: Settings, tmp_path: Path) -> None:
    with public_api(settings, tmp_path / "one") as (_, process):
        assert process.wait(LIMIT_SECONDS) == 1
    with serving(create_app(settings), settings) as local:
        key = run(local, "create", "--name", "first", "--scopes", "admin")
    with public_api(settings, tmp_path / "two") as (client, _):
        until(lambda: client.get("/readyz").is_success, despite=(httpx.HTTPError,))
        assert client.get("/v1/jobs").status_code == 401
        assert status(client, key) == 200
