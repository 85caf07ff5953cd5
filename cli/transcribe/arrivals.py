"""Which recordings of a folder are complete, and were not handed out yet as they are now."""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from cli.transcribe.files import sidecar_of
from cli.transcribe.source import Source
from cli.transcribe.sources import find

Mark = tuple[int, ...]
"""Size and time of change, of a recording and of the options beside it."""


@dataclass(slots=True)
class _Waiting:
    mark: Mark
    since: float


class Arrivals:
    """What ``look`` has seen so far: for one thread at a time. Times are monotonic seconds."""

    def __init__(self, folder: Path, out: Path | None, settle: float) -> None:
        """A recording counts as complete when it has not changed for ``settle`` seconds, and nobody writes it."""
        self._folder, self._out, self._settle = folder, out, settle
        self._waiting: dict[str, _Waiting] = {}
        self._handed_out: dict[str, Mark] = {}

    def look(self, now: float, *, busy: Set[str] = frozenset(), moved: Set[str] = frozenset()) -> list[Source]:
        """Recordings that are complete, in order, each once for every state of it. Raises Failed without a folder.

        What is ``busy`` is passed over. What was ``moved`` here under its name is as complete as it will be.
        """
        found = {source.name: source for source in find([str(self._folder)], self._out)}
        for gone in (self._waiting.keys() | self._handed_out.keys()) - found.keys():
            self._waiting.pop(gone, None)
            self._handed_out.pop(gone, None)
        return [
            source
            for name, source in found.items()
            if name not in busy
            and self._is_complete(source.path, now, settle=0 if name in moved else self._settle)
        ]

    def _is_complete(self, path: Path, now: float, settle: float) -> bool:
        name, mark = str(path), self._mark(path)
        if mark is None or self._handed_out.get(name) == mark:
            self._waiting.pop(name, None)
            return False
        waiting = self._waiting.get(name)
        if waiting is None or waiting.mark != mark:
            waiting = self._waiting[name] = _Waiting(mark, now)
        if now - waiting.since < settle:
            return False
        if is_being_written(path):
            waiting.since = now
            return False
        self._handed_out[name] = self._waiting.pop(name).mark
        return True

    def _mark(self, path: Path) -> Mark | None:
        """None for what is no recording yet: empty, a pipe, or a link that leads out of the folder."""
        try:
            found = path.stat()
            if path.is_symlink() and not path.resolve().is_relative_to(self._folder.resolve()):
                return None
            if not stat.S_ISREG(found.st_mode) or not found.st_size:
                return None
            sidecar = sidecar_of(path)
            beside = sidecar.stat() if sidecar else None
        except (OSError, RuntimeError):  # RuntimeError: links in a circle
            return None
        mark = (found.st_size, found.st_mtime_ns)
        return (*mark, beside.st_size, beside.st_mtime_ns) if beside else mark

    def due(self) -> float | None:
        """When the next one will be complete, if it stays as it is."""
        return min((waiting.since + self._settle for waiting in self._waiting.values()), default=None)

    def hand_out_again(self, name: str) -> None:
        self._handed_out.pop(name, None)


def is_being_written(path: Path) -> bool:
    """Whether a process has the file open to write, where the system tells: on Linux, of one's own files.

    Asks for a lease, which is only given where there is no such process, and gives it back. Ignore SIGIO, which
    comes if somebody opens the file in between.
    """
    if sys.platform != "linux":
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
