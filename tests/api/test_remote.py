"""Models behind HTTP in the API: naming them, listing them, and how they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import create_app
from db.settings import Settings
from tests.api.conftest import serving
from tests.http_engines.server import MODEL, vllm
from tests.media import DATA
from tests.waiting import until

SOUND = (DATA / "librivox_0880.flac").read_bytes()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "endpoints.toml"
    path.write_text(
        '[[model]]\nname = "qwen"\nhosts = ["http://127.0.0.1:1"]\n'
        '[[model]]\nname = "quick"\nserves = ["draft"]\nlanguages = ["en"]\nhosts = ["http://127.0.0.1:1"]\n'
    )
    return path


@pytest.fixture
def client(settings: Settings, file: Path) -> Iterator[httpx.Client]:
    changed = settings.model_copy(update={"endpoints": file})
    with serving(create_app(changed), changed) as opened:
        yield opened


def submit(client: httpx.Client, **fields: str) -> tuple[int, dict[str, Any]]:
    answer = client.post("/v1/jobs", data=fields, files={"file": ("a.flac", SOUND)})
    return answer.status_code, answer.json()


def test_a_job_names_its_models(client: httpx.Client) -> None:
    status, job = submit(client, refine_model="qwen", draft_model="quick", refine_engine="http")
    assert (status, job["options"]["refine_model"], job["options"]["draft_model"]) == (202, "qwen", "quick")


@pytest.mark.parametrize(
    ("fields", "code", "models"),
    [
        ({"refine_model": "gpt"}, "model_not_found", ["qwen"]),
        ({"refine_model": "quick"}, "model_not_found", ["qwen"]),
        ({"draft_model": "qwen"}, "model_not_found", ["quick"]),
        ({"refine_model": "qwen", "refine_engine": "whisper"}, "invalid_options", None),
        ({"draft_model": "quick", "language": "de"}, "invalid_options", None),
        ({"refine_model": "qwen", "translate": "true"}, "invalid_options", None),
        ({"refine_engine": "http", "translate": "true"}, "invalid_options", None),
    ],
)
def test_names_that_cannot_be_had(
    client: httpx.Client, fields: dict[str, str], code: str, models: list[str] | None
) -> None:
    status, problem = submit(client, **fields)
    assert (status, problem["code"], problem.get("models")) == (422, code, models)
    by_address = {"audio_url": "https://recordings.example/a.wav", "options": fields}
    answer = client.post("/v1/jobs", json=by_address)
    assert answer.status_code == 422
    assert code in (answer.json()["code"], "invalid_options")
    if models:
        assert models[0] in problem["detail"]


def test_a_server_without_any(settings: Settings) -> None:
    with serving(create_app(settings), settings) as opened:
        status, problem = submit(opened, refine_model="qwen")
        assert (status, problem["code"], problem["models"]) == (422, "model_not_found", [])
        assert "models" not in opened.get("/readyz").json()


def test_openais_clients_name_them_too(client: httpx.Client, file: Path) -> None:
    names = [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert "qwen" in names
    assert "quick" not in names
    assert client.get("/v1/models/qwen").json()["id"] == "qwen"
    answer = client.post("/v1/audio/transcriptions", data={"model": "gpt"}, files={"file": ("a.flac", SOUND)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert "qwen" in answer.json()["error"]["message"]
    answer = client.post("/v1/audio/translations", data={"model": "qwen"}, files={"file": ("a.flac", SOUND)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_options")
    assert "qwen does not translate" in answer.json()["error"]["message"]
    # a name is there as soon as operators write it down
    file.write_text('[[model]]\nname = "newer"\nhosts = ["http://127.0.0.1:1"]\n')
    assert client.get("/v1/models/newer").status_code == 200
    assert client.get("/v1/models/qwen").status_code == 404


def test_readiness_tells_of_them_and_does_not_depend_on_them(client: httpx.Client, file: Path) -> None:
    def told() -> dict[str, str]:
        answer = client.get("/readyz")
        assert answer.status_code == 200
        return dict(answer.json().get("models", {}))

    until(lambda: told() == {"qwen": "away", "quick": "away"}, seconds=30)
    with vllm(models=[MODEL, "qwen"]) as server:
        file.write_text(f'[[model]]\nname = "qwen"\nhosts = ["{server.url}", "http://127.0.0.1:1"]\n')
        until(lambda: told() == {"qwen": "partly"}, seconds=30)
        assert server.url not in client.get("/readyz").text
