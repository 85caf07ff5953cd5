"""Keeps processes up: starts them in order, restarts what dies a bounded number of times, stops all in reverse."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType

from cli.stack.process import Process, StackError

RESTARTS = 5
"""Restarts of one process within WINDOW seconds before the stack gives up."""

WINDOW = 300.0
PAUSE = 1.0
"""Seconds before the second restart of a process; doubles each time, up to eightfold."""


class Supervisor:
    """Runs processes until told to stop. ``say`` gets one line for each thing worth knowing."""

    def __init__(self, say: Callable[[str], None], poll: float = 0.5) -> None:
        self._say, self._poll = say, poll
        self.processes: list[Process] = []
        self._deaths: dict[str, list[float]] = {}
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
        """Restart what dies, until told to stop. Raises StackError when a process dies too often."""
        while not self._stopping.wait(self._poll):
            for process in self.processes:
                if not process.running:
                    self._restart(process)

    def _restart(self, process: Process) -> None:
        now = time.monotonic()
        deaths = [at for at in self._deaths.get(process.name, []) if now - at < WINDOW] + [now]
        self._deaths[process.name] = deaths
        if len(deaths) > RESTARTS:
            raise StackError(f"{process.name} died {len(deaths)} times; giving up.{process.tail()}")
        self._say(f"{process.name} died (exit code {process.exit_code}); restarting it.{process.tail()}")
        # after the first, a growing pause: whatever killed it may pass
        pause = PAUSE * min(8.0, 2.0 ** (len(deaths) - 2)) if len(deaths) > 1 else 0.0
        if self._stopping.wait(pause):
            return
        try:
            process.start()
        except StackError as error:
            self._say(str(error))
        else:
            self._say(f"{process.name:<9} {process.url or 'running'} again")

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
