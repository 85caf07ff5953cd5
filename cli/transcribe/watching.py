"""Transcribing what appears in a folder. The folder is the truth; events only say that it is worth a look."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from cli.command import Failed
from cli.transcribe.arrivals import Arrivals
from cli.transcribe.run import Outcome, Result, Transcription
from cli.transcribe.source import Source
from longhand import ApiError, LonghandError, Unauthorized, Unreachable

if sys.platform == "linux":
    from watchdog.observers.inotify import InotifyObserver

LOOK_SECONDS = 60.0
"""Between looks that no event asks for: events get lost, and network folders have none of other machines."""

CALM_SECONDS = 0.2
"""Events come in crowds."""

AWAY_SECONDS = 10.0
RETRY_SECONDS = 300.0
MAX_RETRY_SECONDS = 6 * 3600.0

# not those of reading: whoever looks would be called to look again
EVENTS: list[type[FileSystemEvent]] = [
    *(FileCreatedEvent, FileModifiedEvent, FileClosedEvent, FileMovedEvent),
    *(DirCreatedEvent, DirMovedEvent),
]


class Watch:
    """One folder. ``poll``: seconds between looks, in place of events; ``report`` gets what became of each."""

    def __init__(
        self,
        folder: Path,
        arrivals: Arrivals,
        transcription: Transcription,
        poll: float | None,
        report: Callable[[Result], object],
        say: Callable[[str], object],
    ) -> None:
        self._folder, self._arrivals, self._transcription = folder, arrivals, transcription
        self._poll, self._report, self._say = poll, report, say
        self._rung = asyncio.Event()
        self._probing = asyncio.Lock()
        self._moved: set[str] = set()
        self._busy: set[str] = set()
        self._again: set[str] = set()
        self._failures: Counter[str] = Counter()

    async def run(self) -> None:
        """Until it is cancelled: the next run goes on with what is under way then. Raises ApiError at first."""
        with self._listening():
            await self._answer()
            async with asyncio.TaskGroup() as group:
                while True:
                    began = time.monotonic()
                    for source in await self._look():
                        self._busy.add(source.name)
                        group.create_task(self._one(source))
                    # no more than a fifth of the time is spent looking, however large the folder
                    await asyncio.sleep(max(CALM_SECONDS, 4 * (time.monotonic() - began)))
                    await self._wait()

    async def _look(self) -> list[Source]:
        self._rung.clear()
        moved, self._moved = self._moved, set()
        again, self._again = self._again, set()
        for name in again:
            self._arrivals.hand_out_again(name)
        look = asyncio.to_thread(
            self._arrivals.look, time.monotonic(), busy=frozenset(self._busy), moved=moved | again
        )
        try:
            found = await look
        except Failed as error:
            # a network folder may come back
            self._say(str(error))
            return []
        self._transcription.name(found)
        return found

    async def _wait(self) -> None:
        seconds, due = self._poll or LOOK_SECONDS, self._arrivals.due()
        if due is not None:
            seconds = min(seconds, max(due - time.monotonic(), 0))
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.wait()

    async def _one(self, source: Source) -> None:
        try:
            while (result := await self._transcription.one(source)).is_put_off:
                with suppress(ApiError):
                    await self._answer(despite=(Unreachable, Unauthorized))
        finally:
            self._busy.discard(source.name)
            self._rung.set()
        if result.outcome != Outcome.ALREADY_DONE:
            self._report(result)
        if result.cause is None or result.is_lasting or not source.path.exists():
            del self._failures[source.name]
            return
        seconds = min(RETRY_SECONDS * 2 ** self._failures[source.name], MAX_RETRY_SECONDS)
        self._failures[source.name] += 1
        asyncio.get_running_loop().call_later(seconds, self._try_again, source.name)

    def _try_again(self, name: str) -> None:
        self._again.add(name)
        self._rung.set()

    async def _answer(self, despite: tuple[type[LonghandError], ...] = (Unreachable,)) -> None:
        """Wait until the server answers. Raises ApiError if it takes neither key nor options."""
        async with self._probing:
            said = False
            while True:
                try:
                    return await self._transcription.check()
                except despite as error:
                    if not said:
                        self._say(f"{error} Waiting for it.")
                    said = True
                    await asyncio.sleep(AWAY_SECONDS)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        observer = None if self._poll else self._observer()
        try:
            yield
        finally:
            if observer is not None:
                observer.stop()
                observer.join()

    def _observer(self) -> BaseObserver | None:
        """None where the system has no more watches to give."""
        observer = InotifyObserver(generate_full_events=True) if sys.platform == "linux" else Observer()
        loop = asyncio.get_running_loop()
        bell = _Bell(lambda moved: loop.call_soon_threadsafe(self._ring, moved))
        observer.schedule(bell, str(self._folder), recursive=True, event_filter=EVENTS)
        try:
            observer.start()
        except OSError as error:
            self._say(f"{self._folder} gives no events ({error.strerror}): looking every {LOOK_SECONDS:g} s.")
            return None
        return observer

    def _ring(self, moved: str) -> None:
        if moved:
            self._moved.add(moved)
        self._rung.set()


class _Bell(FileSystemEventHandler):
    """Rings with the name of what was moved here, or with none."""

    def __init__(self, ring: Callable[[str], object]) -> None:
        self._ring = ring

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._ring(os.fsdecode(event.dest_path))
