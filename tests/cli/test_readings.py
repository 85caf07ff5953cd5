"""``longhand summarise``, ``ask``, ``translate`` and ``vocabulary`` against a server and a worker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from api.app import create_app
from cli.main import app
from db.session import Sessions
from db.settings import Settings
from tasks.readings import answer, summarise, translate
from tasks.runtime import Runtime
from tasks.step import run as run_step
from tests.api.conftest import serving
from tests.http_engines import writer
from tests.http_engines.server import vllm
from tests.transcribed import transcribed

TEXTS = ["we met on Monday", "Grace will call the architect"]


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    with vllm(models=["reader"], say=writer.write) as server:
        file = tmp_path / "endpoints.toml"
        file.write_text(f'[[language_model]]\nname = "reader"\nhosts = ["{server.url}"]\n')
        yield settings.model_copy(update={"endpoints": file})


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    """Of a server with a worker that reads."""
    runtime, stop = Runtime(settings), threading.Event()

    def work() -> None:
        while not stop.wait(0.05):
            for handler in (summarise.handler, answer.handler, translate.handler):
                run_step(handler, runtime)

    with serving(create_app(settings), settings) as opened:
        worker = threading.Thread(target=work)
        worker.start()
        yield opened
        stop.set()
        worker.join()


def run(client: httpx.Client, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*arguments, "--url", str(client.base_url)])
    assert done.exit_code == code, done.output
    return done.output.strip()


def test_what_a_transcript_says(client: httpx.Client, sessions: Sessions) -> None:
    job = str(transcribed(sessions, TEXTS))
    said = run(client, "summarise", job)
    assert said.startswith("A talk\n\n00:00:00  It is said that Ada: we met on Monday\n")
    assert said.endswith(f"To do\n00:00:06  To do: SPEAKER_01: {TEXTS[1]}")
    assert "00:00:00  It is said" in run(client, "ask", job, "When?")
    assert run(client, "translate", job, "fr") == "2 segments are translated into fr."
    assert "fr(we met on Monday)" in run(client, "transcript", job, "-f", "srt", "-o", "language=fr")
    assert "no language model 'other'" in run(client, "summarise", job, "--model", "other", code=1)


def test_a_vocabulary(client: httpx.Client, sessions: Sessions) -> None:
    job = transcribed(sessions, ["aider sat down", "then aider spoke", "and aider left"])
    for index, said in enumerate(["Ada sat down", "then Ada spoke"]):
        client.patch(f"/v1/jobs/{job}/segments/{index}", json={"text": said}).raise_for_status()
    assert "Ada" in run(client, "vocabulary", "proposals")
    run(client, "vocabulary", "add", "Ada")
    (row,) = client.get("/v1/vocabulary").json()["data"]
    assert (row["term"], row["sounds_like"], row["accepted"]) == ("Ada", ["aider"], True)
    assert run(client, "vocabulary", "proposals").count("Ada") == 0
    run(client, "vocabulary", "add", "Ada", code=1)
    run(client, "vocabulary", "reject", "Eider")
    assert "rejected" in run(client, "vocabulary", "list")
    run(client, "vocabulary", "remove", "Eider")
    run(client, "vocabulary", "remove", "Eider", code=1)
