"""When a file in a watched folder is complete, and what happens with it then; no server is asked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from watchdog.observers.api import BaseObserver

from cli.command import Failed
from cli.transcribe import watching
from cli.transcribe.arrivals import Arrivals, is_being_written
from cli.transcribe.run import BadOptions, Outcome, Result, Transcription
from cli.transcribe.source import Source
from cli.transcribe.watching import Watch
from longhand import JobFailed, RateLimited, Unreachable
from tests.waiting import LIMIT_SECONDS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


def names(found: list[Source]) -> list[str]:
    return [source.path.name for source in found]


class TestArrivals:
    def test_what_does_not_change_any_more_is_complete(self, folder: Path) -> None:
        arrivals = Arrivals(folder, None, settle=5)
        (folder / "a.mp3").write_bytes(b"x")
        assert arrivals.look(0) == []
        assert arrivals.due() == 5
        (folder / "a.mp3").write_bytes(b"xx")
        assert arrivals.look(5) == []
        assert names(arrivals.look(10)) == ["a.mp3"]
        assert arrivals.due() is None
        assert arrivals.look(100) == [], "once is enough"
        (folder / "a.mp3").write_bytes(b"yy!")
        assert arrivals.look(101) == []
        assert names(arrivals.look(106)) == ["a.mp3"], "it has changed"

    def test_what_somebody_writes_is_not_complete(self, folder: Path) -> None:
        arrivals = Arrivals(folder, None, settle=5)
        with (folder / "a.mp3").open("wb") as file:
            file.write(b"x")
            file.flush()
            if not is_being_written(folder / "a.mp3"):
                pytest.skip("this file system does not tell who writes")
            assert arrivals.look(0) == []
            assert arrivals.look(60) == []
        assert names(arrivals.look(120)) == ["a.mp3"]

    def test_what_was_moved_is_complete_at_once(self, folder: Path) -> None:
        arrivals = Arrivals(folder, None, settle=5)
        (folder / "a.mp3").write_bytes(b"x")
        (folder / "b.mp3").write_bytes(b"x")
        assert names(arrivals.look(0, moved={str(folder / "b.mp3")})) == ["b.mp3"]

    def test_what_is_not_taken(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "secret.mp3").write_bytes(b"x")
        (tmp_path / "others").mkdir()
        (tmp_path / "others" / "a.mp3").write_bytes(b"x")
        for name in (".a.mp3.x1Y2z3", "a.mp3.part", "a.txt", ".a.mp3"):
            (folder / name).write_bytes(b"x")
        (folder / "empty.mp3").touch()
        (folder / "out.mp3").symlink_to("../secret.mp3")
        (folder / "others").symlink_to("../others")
        (folder / "nowhere.mp3").symlink_to("nowhere")
        (folder / "circle.mp3").symlink_to("circle.mp3")
        os.mkfifo(folder / "pipe.mp3")
        (folder / "folder.mp3").mkdir()
        arrivals = Arrivals(folder, None, settle=0)
        assert arrivals.look(0) == []
        (folder / "a.mp3.part").rename(folder / "a.mp3")
        (folder / "b.mp3").symlink_to("a.mp3")
        assert names(arrivals.look(1)) == ["a.mp3", "b.mp3"]

    def test_what_is_deleted_may_come_again(self, folder: Path) -> None:
        arrivals = Arrivals(folder, None, settle=0)
        (folder / "sub").mkdir()
        (folder / "sub" / "a.mp3").write_bytes(b"x")
        (found,) = arrivals.look(0)
        before = found.path.stat()
        found.path.unlink()
        assert arrivals.look(1) == []
        found.path.write_bytes(b"x")
        os.utime(found.path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert names(arrivals.look(2)) == ["a.mp3"]

    def test_options_that_change(self, folder: Path) -> None:
        arrivals = Arrivals(folder, None, settle=0)
        (folder / "a.mp3").write_bytes(b"x")
        assert names(arrivals.look(0)) == ["a.mp3"]
        (folder / "a.json").write_text("{}")
        assert names(arrivals.look(1)) == ["a.mp3"]
        assert arrivals.look(2) == []

    def test_a_folder_that_is_away(self, folder: Path) -> None:
        arrivals = Arrivals(folder, None, settle=0)
        folder.rmdir()
        with pytest.raises(Failed):
            arrivals.look(0)

    def test_thousands_at_once(self, folder: Path) -> None:
        for number in range(3000):
            (folder / f"{number:04}.mp3").write_bytes(b"x")
        arrivals = Arrivals(folder, None, settle=0)
        found = arrivals.look(0)
        assert names(found) == [f"{number:04}.mp3" for number in range(3000)]
        assert arrivals.look(1) == []


class Scripted(Transcription):
    """Answers as the test says."""

    def __init__(self, answers: Callable[[Source], Exception | None]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.away = 0

    async def check(self) -> None:
        if self.away:
            self.away -= 1
            raise Unreachable("The server cannot be reached.")

    def name(self, sources: object) -> None: ...

    async def one(self, source: Source) -> Result:
        self.asked.append(source.path.name)
        cause = self.answers(source)
        return Result(source, Outcome.FAILED if cause else Outcome.TRANSCRIBED, cause=cause)


class TestWatch:
    @pytest.fixture(autouse=True)
    def _soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watching, "AWAY_SECONDS", 0.01)
        monkeypatch.setattr(watching, "RETRY_SECONDS", 0.01)
        monkeypatch.setattr(watching, "CALM_SECONDS", 0.01)

    def watch(
        self,
        folder: Path,
        transcription: Scripted,
        meanwhile: Callable[[], Awaitable[object]],
        poll: float | None = None,
    ) -> list[str]:
        """What was said, until ``meanwhile`` is over."""
        said: list[str] = []

        async def run() -> None:
            arrivals = Arrivals(folder, None, settle=0.02)
            watch = Watch(folder, arrivals, transcription, poll, lambda result: None, said.append)
            running = asyncio.create_task(watch.run())
            async with asyncio.timeout(LIMIT_SECONDS):
                await meanwhile()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert running.cancelled()

        asyncio.run(run())
        return said

    @pytest.mark.parametrize("poll", [None, 0.1])
    def test_files_come_in_every_way(self, folder: Path, poll: float | None) -> None:
        transcription = Scripted(lambda source: None)
        (folder / "early.mp3").write_bytes(b"x")

        async def drop() -> None:
            await until(lambda: transcription.asked == ["early.mp3"])
            (folder.parent / "x").write_bytes(b"x")
            (folder.parent / "x").rename(folder / "moved.mp3")
            (folder.parent / "new" / "deep").mkdir(parents=True)
            (folder.parent / "new" / "deep" / "deep.mp3").write_bytes(b"x")
            (folder.parent / "new").rename(folder / "new")
            (folder / "late.mp3.part").write_bytes(b"x")
            await until(lambda: len(transcription.asked) == 3)
            (folder / "late.mp3.part").rename(folder / "late.mp3")
            (folder / "new" / "deep" / "deeper.mp3").write_bytes(b"x")
            await until(lambda: len(transcription.asked) == 5)

        assert self.watch(folder, transcription, drop, poll) == []
        assert sorted(transcription.asked) == ["deep.mp3", "deeper.mp3", "early.mp3", "late.mp3", "moved.mp3"]

    def test_a_server_that_is_away_is_waited_for(self, folder: Path) -> None:
        (folder / "a.mp3").write_bytes(b"x")
        failures = [Unreachable("gone"), Unreachable("gone again")]
        transcription = Scripted(lambda source: failures.pop() if failures else None)
        transcription.away = 3
        said = self.watch(folder, transcription, lambda: until(lambda: transcription.asked == ["a.mp3"] * 3))
        assert said == ["The server cannot be reached. Waiting for it."]

    def test_what_passes_is_tried_again_and_what_lasts_is_not(self, folder: Path) -> None:
        faults: dict[str, list[Exception]] = {
            "bad.mp3": [JobFailed({}, "audio_unreadable", "no audio")],
            "odd.mp3": [BadOptions("unknown option")],
            "busy.mp3": [RateLimited(429, "quota_jobs", "", ""), JobFailed({}, "step_failed", "")],
        }
        for name in faults:
            (folder / name).write_bytes(b"x")

        def answer(source: Source) -> Exception | None:
            left = faults[source.path.name]
            return left.pop() if left else None

        transcription = Scripted(answer)

        async def mend() -> None:
            await until(lambda: transcription.asked.count("busy.mp3") == 3)
            assert transcription.asked.count("bad.mp3") == 1
            (folder / "bad.mp3").write_bytes(b"better")
            await until(lambda: transcription.asked.count("bad.mp3") == 2)

        self.watch(folder, transcription, mend)
        assert transcription.asked.count("odd.mp3") == 1

    def test_a_folder_without_events_is_looked_at(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(BaseObserver, "start", refuse)
        monkeypatch.setattr(watching, "LOOK_SECONDS", 0.05)
        transcription = Scripted(lambda source: None)

        async def drop() -> None:
            (folder / "a.mp3").write_bytes(b"x")
            await until(lambda: transcription.asked)

        (said,) = self.watch(folder, transcription, drop)
        assert "gives no events" in said


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)
