"""``longhand doctor`` against real servers, and without."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url
from typer.testing import CliRunner

from api.app import create_app
from cli.main import app
from db.settings import Settings
from tasks.fetch import pages
from tests.api.conftest import serving
from tests.conftest import environment_of
from tests.db.test_settings import MISTAKEN, MISTAKES
from tests.http_engines.server import vllm
from workers.diagnosis.configuration import check_settings
from workers.diagnosis.endpoints import check_endpoints
from workers.diagnosis.finding import State

Found = dict[str, list[tuple[str, str, str]]]


def doctor(url: str, environment: dict[str, str]) -> tuple[int, Found]:
    done = CliRunner().invoke(app, ["doctor", "--json", "--url", url], env=environment)
    found: Found = defaultdict(list)
    for each in json.loads(done.stdout):
        found[each["check"]].append((each["state"], each["found"], each["advice"]))
    return done.exit_code, found


def states(found: Found, check: str) -> set[str]:
    return {state for state, _, _ in found[check]}


def test_servers_that_run_without_workers(settings: Settings, tmp_path: Path) -> None:
    # hashing all models is not the point here
    environment = environment_of(settings) | {"LONGHAND_MODELS_DIR": str(tmp_path)}
    with serving(create_app(settings), settings) as client:
        code, found = doctor(str(client.base_url), environment)
        servers = ("postgres", "connections", "migrations", "redis", "s3", "clock of postgres", "clock of s3")
        for check in (*servers, "api"):
            assert states(found, check) == {"ok"}, found[check]
        assert [found["workers"][n][1].split()[-2] for n in range(3)] == ["cpu", "gpu", "io"]
        assert states(found, "workers") == {"broken"}
        assert "longhand models pull silero-vad" in found["models"][0][2]
        assert code == 1
        url = make_url(settings.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '0003'")
            assert states(doctor(str(client.base_url), environment)[1], "migrations") == {"broken"}


def test_nothing_runs(tmp_path: Path) -> None:
    environment = {
        "LONGHAND_DATABASE_URL": "postgresql+psycopg://me:secret@127.0.0.1:1/none",
        "LONGHAND_REDIS_URL": "redis://:secret@127.0.0.1:1/0",
        "LONGHAND_S3_ENDPOINT": "http://127.0.0.1:1",
        "LONGHAND_DATA_DIR": str(tmp_path),
        "LONGHAND_MODELS_DIR": str(tmp_path),
        "LONGHAND_DRAFT_ENGIN": "whisper",
    }
    code, found = doctor("http://127.0.0.1:1", environment)
    assert code == 1
    for check in ("postgres", "redis", "s3", "models", "api"):
        assert "broken" in states(found, check)
    said = json.dumps(found)
    assert "DRAFT_ENGIN" in said
    assert '"secret"' not in said
    assert ":secret" not in said


def test_pages_without_what_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "installed", lambda: False)
    (found,) = [each for each in check_settings(Settings(fetch_pages=True)) if each.state == State.BROKEN]
    assert "longhand[pages]" in found.advice


def test_models_behind_http(tmp_path: Path) -> None:
    file = tmp_path / "endpoints.toml"
    settings = Settings(endpoints=file, refine_engine="http,whisper", draft_engine="http")
    with vllm(models=["qwen"], key="secret-key") as server, vllm() as dead:
        (tmp_path / "key").write_text("secret-key")
        key = f'key_file = "{tmp_path / "key"}"'
        file.write_text(
            f'[[model]]\nname = "qwen"\nhosts = ["{server.url}"]\nprice_per_minute = 0.01\n{key}\n'
            f'[[model]]\nname = "other"\nhosts = ["{server.url}"]\n{key}\n'
            f'[[model]]\nname = "locked"\nhosts = ["{server.url}"]\n'
            f'[[model]]\nname = "wrong"\nhosts = ["{dead.url}"]\n'
        )
        found = {each.found: each.state for each in check_endpoints(settings)}
    assert {(text.split()[0], state) for text, state in found.items()} == {
        *(("no", State.BROKEN), ("qwen", State.OK), ("other", State.WARNING)),
        *(("locked", State.WARNING), ("wrong", State.WARNING)),
    }
    assert any("0.01 a minute" in text for text in found)
    assert "secret-key" not in str(found)
    file.write_text("[[model]]")
    (broken,) = check_endpoints(settings)
    assert (broken.state, "name: Field required" in broken.found) == (State.BROKEN, True)
    assert [each.state for each in check_endpoints(Settings(refine_engine="http"))] == [State.BROKEN]
    assert list(check_endpoints(Settings())) == []


def test_all_mistakes_in_settings_are_told_at_once() -> None:
    code, found = doctor("http://127.0.0.1:1", MISTAKES)
    assert code == 1
    assert states(found, "settings") == {"broken"}
    told = sorted(said.partition(":")[0].partition(" ")[0] for _, said, _ in found["settings"])
    assert told == sorted(MISTAKEN)
