"""Keeps processes up: starts them in order, restarts what dies, stops all in reverse."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType

from cli.stack.process import Process, StackError

STARTS = 5
"""Starts in a row that fail before the stack gives up. What once was ready is restarted for ever: it may have
been a recording that killed it, and others wait."""

CALM = 60.0
"""Seconds of life after which a death counts as the first again."""

PAUSE = 1.0
"""Seconds before the second restart of a process; doubles each time, up to eightfold."""


@dataclass(slots=True)
class Life:
    """A process under supervision; moments are of the monotonic clock."""

    begun: float = field(default_factory=time.monotonic)
    ready: bool = True
    deaths: int = 0
    """In a row, each within CALM seconds of life."""
    failed: int = 0
    """Starts in a row that came to nothing."""
    due: float | None = None
    """When to start it again."""


class Supervisor:
    """Runs processes until told to stop. ``say`` gets one line for each thing worth knowing."""

    def __init__(self, say: Callable[[str], None], poll: float = 0.5) -> None:
        self._say, self._poll = say, poll
        self.processes: list[Process] = []
        self._lives: dict[str, Life] = {}
        self._stopping = threading.Event()

    def start(self, process: Process) -> None:
        """Start a process and wait until it is ready. Raises StackError."""
        self.processes.append(process)
        process.start()
        self._say(f"{process.name:<9} {process.url or 'running'}")

    def start_together(self, processes: Sequence[Process]) -> None:
        """Start processes that do not wait for each other, then wait for all."""
        self.processes += processes
        for process in processes:
            process.spawn()
        for process in processes:
            process.wait_ready()
            self._say(f"{process.name:<9} {process.url or 'running'}")

    def pids(self) -> dict[str, int]:
        """The running processes by name."""
        return {process.name: process.pid for process in self.processes if process.pid is not None}

    def stop_on_signals(self) -> None:
        """Let Ctrl-C and SIGTERM end :meth:`watch`."""

        def stop(number: int, frame: FrameType | None) -> None:
            self._stopping.set()

        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)

    def finish(self) -> None:
        """End :meth:`watch`, as a signal does."""
        self._stopping.set()

    def watch(self) -> None:
        """Restart what dies, until told to stop. Raises StackError when a process will not start any more."""
        while not self._stopping.wait(self._poll):
            for process in self.processes:
                self._look_after(process)

    def _look_after(self, process: Process) -> None:
        """One glance, without waiting: while one process starts, another may die that it needs."""
        life = self._lives.setdefault(process.name, Life())
        now = time.monotonic()
        if life.due is not None:
            if now >= life.due:
                self._respawn(process, life, now)
        elif not process.running:
            self._bury(process, life, now)
        elif not life.ready:
            if process.ready():
                life.ready, life.failed = True, 0
                self._say(f"{process.name:<9} {process.url or 'running'} again")
            elif now - life.begun > process.start_seconds:
                self._say(f"{process.name} is not ready after {process.start_seconds:.0f} s.")
                process.stop()

    def _respawn(self, process: Process, life: Life, now: float) -> None:
        life.due, life.begun, life.ready = None, now, False
        try:
            process.spawn()
        except (StackError, OSError) as error:
            # it is not running: the next glance counts this
            self._say(str(error))

    def _bury(self, process: Process, life: Life, now: float) -> None:
        life.failed += not life.ready
        life.deaths = life.deaths + 1 if now - life.begun < CALM else 1
        if life.failed >= STARTS:
            raise StackError(f"{process.name} failed to start {life.failed} times; giving up.{process.tail()}")
        self._say(f"{process.name} died (exit code {process.exit_code}); restarting it.{process.tail()}")
        # after the first, a growing pause: whatever killed it may pass
        pause = PAUSE * min(8.0, 2.0 ** (life.deaths - 2)) if life.deaths > 1 else 0.0
        life.due = now + pause

    def stop(self) -> None:
        """Stop everything, last started first; processes of the product together, for they can take a while."""
        products = [p for p in self.processes if p.stops_together]
        for process in products:
            process.ask_to_stop()
        deadline = time.monotonic() + max([p.stop_seconds for p in products], default=0.0)
        for process in reversed(products):
            process.wait_stopped(deadline - time.monotonic())
        for process in reversed([p for p in self.processes if not p.stops_together]):
            process.stop()
        self.processes.clear()
