"""``longhand watch-folder`` as a process, on a real server with workers whose engines are scripted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from cli.transcribe.state import NAME
from db.settings import Settings
from speech.audio import flac
from tasks.step import run
from tasks.steps import fetch
from tests.api.conftest import client as client
from tests.cli.test_up import LONGHAND
from tests.interruptible import interruptible
from tests.media import DATA
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import HANDLERS
from tests.waiting import LIMIT_SECONDS, until

SECONDS_TO_END = 10
ODD = "no text \udcff"
"""A name on a disk need not be text."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"diarize": False, "retry_seconds": 0.001})


@pytest.fixture
def workers(settings: Settings) -> Iterator[threading.Event]:
    """Running, as long as the event is not set."""
    runtime = FakeRuntime(settings, lambda _: "we met on monday", lambda _: "We met on Monday.")
    paused, over = threading.Event(), threading.Event()

    def work() -> None:
        while not over.wait(0.02):
            for handler in (fetch.handler, *HANDLERS):
                while not paused.is_set() and run(handler, runtime):
                    pass

    thread = threading.Thread(target=work)
    thread.start()
    yield paused
    over.set()
    thread.join(LIMIT_SECONDS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


class Watching:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.told: list[dict[str, Any]] = []
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.told.append(json.loads(line))

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        status = self.process.wait(SECONDS_TO_END)
        self._reading.join()
        return status

    def names(self) -> list[str]:
        """Of what has been told so far."""
        assert self.process.poll() is None, "it has ended"
        return sorted(Path(line["source"]).name for line in self.told)


@contextmanager
def watching(client: httpx.Client, folder: Path, out: Path, *arguments: str) -> Iterator[Watching]:
    command = [str(LONGHAND), "watch-folder", str(folder), "--out", str(out), "--settle", "0.3", "--json"]
    command += ["--language", "en", "--url", str(client.base_url), *arguments]
    with subprocess.Popen(
        interruptible(command), env=dict(os.environ), stdout=subprocess.PIPE, text=True
    ) as process:
        started = Watching(process)
        try:
            yield started
        finally:
            process.kill()


def sound(number: int) -> bytes:
    """Another recording for each number."""
    return flac.encode(np.zeros(8000 + number, np.float32))


def jobs(client: httpx.Client) -> Sequence[dict[str, Any]]:
    return list(client.get("/v1/jobs?limit=100").json()["data"])


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {NAME}


@pytest.mark.usefixtures("workers")
def test_what_appears_is_transcribed_once(client: httpx.Client, folder: Path, out: Path) -> None:
    (folder / "sub").mkdir()
    shutil.copy(DATA / "ocean_0036.flac", folder / "sub" / "early.flac")
    (folder / f"{ODD}.flac").write_bytes(sound(0))
    with watching(client, folder, out) as watch:
        until(lambda: len(watch.names()) == 2)
        assert "We met on Monday." in (out / "sub" / "early.txt").read_text()
        (folder / "bad.mp3").write_text("no audio")
        (folder / "mine.flac").write_bytes(sound(1))
        (folder / "mine.json").write_text('{"language": "de"}')
        with (folder / "slow.flac").open("wb") as slow:
            slow.write(sound(2)[:50])
            slow.flush()
            until(lambda: watch.names() == ["bad.mp3", "early.flac", "mine.flac", f"{ODD}.flac"])
            slow.write(sound(2)[50:])
        until(lambda: watch.names() == ["bad.mp3", "early.flac", "mine.flac", f"{ODD}.flac", "slow.flac"])
        assert watch.end(signal.SIGTERM) == 0
    assert files(out) == {"sub/early.txt", f"{ODD}.txt", "bad.error.json", "mine.txt", "slow.txt"}
    assert json.loads((out / "bad.error.json").read_text())["code"] == "audio_unreadable"
    made = jobs(client)
    assert len(made) == 5
    assert [job["audio"]["filename"] for job in made if job["language"] != "en"] == ["mine.flac"]
    # what was taken away stays away, and what was bad is not tried again before it is better
    (out / "mine.txt").unlink()
    with watching(client, folder, out, "--poll", "0.1") as watch:
        (folder / "bad.mp3").write_bytes(sound(3))
        (folder / "late.flac").write_bytes(sound(4))
        until(lambda: watch.names() == ["bad.mp3", "late.flac"])
        assert watch.end(signal.SIGINT) == 130
    assert files(out) == {"sub/early.txt", f"{ODD}.txt", "bad.txt", "slow.txt", "late.txt"}
    assert len(jobs(client)) == len(made) + 2
    with watching(client, folder, out) as watch:
        (folder / "last.flac").write_bytes(sound(5))
        until(lambda: watch.names() == ["last.flac"])


def test_a_watch_that_is_killed_goes_on(
    client: httpx.Client, workers: threading.Event, folder: Path, out: Path
) -> None:
    workers.set()
    names = [f"{number}.flac" for number in range(6)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(sound(number))
    with watching(client, folder, out, "--at-once", "3") as watch:
        until(lambda: len(jobs(client)) == 3)
        assert watch.end(signal.SIGKILL) == -signal.SIGKILL
        assert watch.told == []
    with watching(client, folder, out, "--at-once", "5") as watch:
        until(lambda: len(jobs(client)) == 5)
        assert watch.end(signal.SIGTERM) == 0
        assert watch.told == []
    with watching(client, folder, out, "--at-once", "3") as watch:
        workers.clear()
        until(lambda: watch.names() == names)
        assert watch.end(signal.SIGTERM) == 0
    assert files(out) == {f"{number}.txt" for number in range(6)}
    assert sorted(job["audio"]["filename"] for job in jobs(client)) == names
