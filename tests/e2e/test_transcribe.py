"""``longhand transcribe`` against a whole stack, killed in between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli.stack.stack import Stack
from longhand import Client
from tests.cli.test_up import LONGHAND
from tests.interruptible import interruptible
from tests.media import DATA
from tests.waiting import LIMIT_SECONDS, until

OPTIONS = ("--language", "en", "-o", "diarize=false")
JOURNAL = ".longhand-transcribe.jsonl"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three recordings, of which two are called alike, and what is none."""
    inner = tmp_path / "recordings" / "inner"
    inner.mkdir(parents=True)
    shutil.copy(DATA / "jfk.flac", inner / "a.flac")
    shutil.copy(DATA / "jfk.flac", inner.parent / "copy.flac")
    shutil.copy(DATA / "two_voices_stereo.wav", inner / "a.wav")
    (inner / "notes.txt").write_text("no recording")
    (inner / ".hidden.wav").write_text("hidden")
    return inner.parent


@contextmanager
def started(stack: Stack, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [str(LONGHAND), "transcribe", *arguments, *OPTIONS]
    environment = os.environ | {"LONGHAND_URL": stack.api_url}
    with subprocess.Popen(
        interruptible(command), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(stack: Stack, *arguments: str) -> tuple[int, dict[str, Any]]:
    with started(stack, *arguments, "--json") as process:
        said, complaints = process.communicate(timeout=LIMIT_SECONDS)
    assert said, complaints
    return process.returncode, json.loads(said)


def begun(journal: Path) -> set[str]:
    lines = journal.read_text().splitlines(keepends=True) if journal.exists() else []
    known = [json.loads(line) for line in lines if line.endswith("\n")]
    return {line["id"] for line in known if "id" in line}


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {JOURNAL}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_ended_goes_on(api: Client, stack: Stack, folder: Path, number: signal.Signals) -> None:
    before = {job["id"] for job in api.jobs.list()}
    out = folder.parent / "out"
    arguments = (str(folder), "--out", str(out), "--format", "srt,json")
    with started(stack, *arguments) as process:
        ids = until(lambda: begun(out / JOURNAL), despite=(json.JSONDecodeError,))
        process.send_signal(number)
        assert process.wait(LIMIT_SECONDS) == (130 if number == signal.SIGINT else -number)
    code, said = run(stack, *arguments)
    assert (code, said["counts"]) == (0, {"transcribed": 3, "already done": 0, "failed": 0})
    names = ("inner/a", "inner/a.wav", "copy")
    assert files(out) == {f"{name}.{ending}" for name in names for ending in ("srt", "json")}
    assert (out / "copy.srt").read_text() == (out / "inner" / "a.srt").read_text()
    made = {job["id"] for job in api.jobs.list()} - before
    assert len(made) == 2, "a copy is not transcribed again"
    assert ids <= made, "what was begun is what was finished"
    code, said = run(stack, *arguments[:-1], "srt,vtt")
    assert said["counts"] == {"transcribed": 3, "already done": 0, "failed": 0}
    assert {job["id"] for job in api.jobs.list()} - before == made, "another format makes no job"
    assert run(stack, *arguments)[1]["counts"]["already done"] == 3


def test_a_bad_file_stops_no_other_and_nothing_foreign_is_overwritten(stack: Stack, tmp_path: Path) -> None:
    shutil.copy(DATA / "jfk.flac", tmp_path / "good.flac")
    (tmp_path / "bad.mp3").write_text("no audio")
    (tmp_path / "good.txt").write_text("mine")
    code, said = run(stack, str(tmp_path))
    assert (code, said["counts"]) == (1, {"transcribed": 1, "already done": 0, "failed": 1})
    (failed,) = [result for result in said["results"] if result["outcome"] == "failed"]
    assert "audio_unreadable" in failed["error"]
    assert (tmp_path / "good.txt").read_text() == "mine"
    assert "ask not" in (tmp_path / "good.flac.txt").read_text()
    (tmp_path / "good.flac.srt").write_text("mine too")
    code, said = run(stack, str(tmp_path / "good.flac"), "--format", "srt")
    assert (code, (tmp_path / "good.flac.srt").read_text()) == (1, "mine too")
