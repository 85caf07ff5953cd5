"""Models behind HTTP in a whole stack: another Longhand as the engine, and servers that die and come back."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import jiwer
import pytest

from cli.stack.stack import PORTS, Plan, Stack, running_stack
from longhand import Client, JobOptions
from tests.e2e.test_stack import wait_until_finished, words
from tests.http_engines.server import MODEL, slow, vllm
from tests.media import DATA

PARTS = ("postgres", "redis", "s3", "api", "cpu", "gpu", "io")
PATIENCE_SECONDS = 3


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("endpoints") / "endpoints.toml"
    file.write_text("")
    return file


@pytest.fixture(scope="module")
def remote(stack: Stack, endpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A second stack, which refines by what the file names."""
    own = {
        "LONGHAND_ENDPOINTS": str(endpoints),
        "LONGHAND_REFINE_ENGINE": "http,whisper",
        "LONGHAND_DIARIZE": "false",
    }
    os.environ.update(own)
    plan = Plan(tmp_path_factory.mktemp("remote"), parts=PARTS, ports=dict.fromkeys(PORTS, 0))
    with running_stack(plan, lambda line: None) as started:
        watching = threading.Thread(target=started.supervisor.watch, daemon=True)
        watching.start()
        yield started
        started.supervisor.finish()
        watching.join()
    for name in own:
        del os.environ[name]


@pytest.fixture
def far(remote: Stack) -> Client:
    return Client(remote.api_url)


def write(endpoints: Path, name: str, url: str, **fields: object) -> None:
    lines = "".join(f"{field} = {value}\n" for field, value in fields.items())
    endpoints.write_text(f'[[model]]\nname = "{name}"\nhosts = ["{url}"]\npatience = {PATIENCE_SECONDS}\n{lines}')


def test_another_longhand_is_the_engine(stack: Stack, api: Client, far: Client, endpoints: Path) -> None:
    """The words are those that the same Whisper hears in this process."""
    write(endpoints, "longhand", stack.api_url, shape='"transcriptions"', base_seconds=120)
    near_job = api.jobs.submit(DATA / "demo.flac", {"language": "en", "diarize": False})["id"]
    far_job = far.jobs.submit(DATA / "demo.flac", {"language": "en", "refine_model": "longhand"})["id"]
    assert wait_until_finished(api, near_job)["status"] == "completed"
    job = wait_until_finished(far, far_job)
    assert (job["status"], job["degraded"]) == ("completed", False)
    assert (job["models"]["refine"]["engine"], job["models"]["refine"]["model"]) == ("http", "longhand")
    near, there = (words(c.jobs.transcript_as(j, "txt").decode()) for c, j in ((api, near_job), (far, far_job)))
    assert jiwer.wer(near, there) < 0.03
    times = [word for segment in far.jobs.transcript(far_job)["segments"] for word in segment["words"]]
    assert all(word["start"] < word["end"] for word in times)


def test_a_server_that_dies_amid_a_job_and_comes_back(far: Client, remote: Stack, endpoints: Path) -> None:
    said = "language English<asr_text>We met on Monday and talked about the weather for a long while."
    with vllm(models=["qwen"], say=lambda asked: said) as server:
        port = server.port
        write(endpoints, "qwen", server.url, aligners='["whisper"]')
        whole = wait_until_finished(far, far.jobs.submit(DATA / "ocean_0036.flac", {"refine_model": "qwen"})["id"])
        assert (whole["status"], whole["degraded"]) == ("completed", False)
        assert whole["models"]["refine"]["word_times"] in ("whisper base", "draft")
        server.behaviour = slow(2)
        dying = far.jobs.submit(DATA / "ocean_0036.flac", {"refine_model": "qwen"})["id"]
        while server.under_way == 0:
            time.sleep(0.02)
    begun = time.monotonic()
    job = wait_until_finished(far, dying)
    assert (job["status"], job["degraded"]) == ("completed", True)
    assert {s["source"] for s in far.jobs.transcript(dying)["segments"]} == {"draft"}
    # one that names nothing is refined by the next engine
    other = wait_until_finished(far, far.jobs.submit(DATA / "jfk.flac", {"language": "en"})["id"])
    assert (other["degraded"], other["models"]["refine"]["engine"]) == (False, "whisper")
    assert other["models"]["refine"]["instead_of"] == "qwen"
    assert time.monotonic() - begun < 60
    with vllm(port=port, models=["qwen"], say=lambda asked: said):
        begun = time.monotonic()
        back = wait_until_finished(far, far.jobs.submit(DATA / "jfk.flac", {"refine_model": "qwen"})["id"])
        assert (back["degraded"], back["models"]["refine"]["model"]) == (False, "qwen")
        assert time.monotonic() - begun < 30
    assert httpx.get(f"{remote.api_url}/readyz").status_code == 200


def test_the_deadline_of_a_job_holds_while_its_model_hangs(far: Client, endpoints: Path) -> None:
    with vllm(models=[MODEL], behaviour=slow(60)) as server:
        write(endpoints, "qwen", server.url, model=f'"{MODEL}"', base_seconds=100)
        begun = time.monotonic()
        options: JobOptions = {"refine_model": "qwen", "degrade_after": 3.0}
        job = wait_until_finished(far, far.jobs.submit(DATA / "jfk.flac", options)["id"])
        assert (job["status"], job["degraded"]) == ("completed", True)
        assert time.monotonic() - begun < 40
