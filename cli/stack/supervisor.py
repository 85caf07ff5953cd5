"""Keeps processes up: starts them in order, restarts what dies, stops all in reverse."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cli.stack.process import Process, StackError

MAX_STARTS = 5
"""Starts in a row that fail before the stack gives up. What once was ready is restarted for ever: it may have
been a recording that killed it, and others wait."""

STABLE_SECONDS = 60.0
"""Seconds after which an exit counts as the first again."""

RESTART_PAUSE_SECONDS = 1.0
"""Seconds before the second restart of a process; doubles each time, up to eightfold."""


class Stopped(StackError):
    """Somebody wants an end while the stack starts."""


class Stop:
    """Whether somebody wants an end.

    A handler of signals may say so at any moment. It raises nothing, as what it raises while Python forks is lost
    (hooks around a fork swallow it), and takes no lock, which the same thread may hold.
    """

    def __init__(self) -> None:
        self.wanted = False

    def want(self, *_: object) -> None:
        self.wanted = True

    def on_signals(self) -> None:
        """Let Ctrl-C and SIGTERM want it from now on."""
        signal.signal(signal.SIGINT, self.want)
        signal.signal(signal.SIGTERM, self.want)

    def check(self) -> None:
        """Raises Stopped."""
        if self.wanted:
            raise Stopped


@dataclass(slots=True)
class ProcessState:
    """A process under supervision; moments are of the monotonic clock."""

    started: float = field(default_factory=time.monotonic)
    ready: bool = True
    exits: int = 0
    """In a row, each within STABLE_SECONDS of the start."""
    failed: int = 0
    """Starts in a row that came to nothing."""
    restart_at: float | None = None
    """When to start it again."""


class Supervisor:
    """Runs processes until told to stop. ``print_line`` gets one line for each thing worth knowing."""

    def __init__(self, print_line: Callable[[str], None], stop: Stop | None = None, poll: float = 0.2) -> None:
        self._print_line, self._stop, self._poll = print_line, stop or Stop(), poll
        self.processes: list[Process] = []
        self._states: dict[str, ProcessState] = {}

    def start(self, process: Process) -> None:
        """Start a process and wait until it is ready. Raises StackError."""
        self.start_together([process])

    def start_together(self, processes: Sequence[Process]) -> None:
        """Start processes that do not wait for each other, then wait for all. Raises StackError."""
        self.processes += processes
        for process in processes:
            self._stop.check()
            process.spawn()
        for process in processes:
            process.wait_ready(self._stop.check)
            self._print_line(f"{process.name:<9} {process.url or 'running'}")

    def pids(self) -> dict[str, int]:
        """The running processes by name."""
        return {process.name: process.pid for process in self.processes if process.pid is not None}

    def finish(self) -> None:
        """End :meth:`watch`, as a signal does."""
        self._stop.want()

    def watch(self) -> None:
        """Restart processes that die, until told to stop. Raises StackError if one no longer starts."""
        while not self._stop.wanted:
            for process in self.processes:
                self._check_process(process)
            time.sleep(self._poll)

    def _check_process(self, process: Process) -> None:
        """Check once, without waiting: while one process starts, another that it needs may die."""
        state = self._states.setdefault(process.name, ProcessState())
        now = time.monotonic()
        if state.restart_at is not None:
            if now >= state.restart_at:
                self._respawn(process, state, now)
        elif not process.running:
            self._handle_failure(process, state, now)
        elif not state.ready:
            if process.ready():
                state.ready, state.failed = True, 0
                self._print_line(f"{process.name:<9} {process.url or 'running'} again")
            elif now - state.started > process.start_seconds:
                self._print_line(f"{process.name} is not ready after {process.start_seconds:.0f} s.")
                process.stop()

    def _respawn(self, process: Process, state: ProcessState, now: float) -> None:
        state.restart_at, state.started, state.ready = None, now, False
        try:
            process.spawn()
        except (StackError, OSError) as error:
            # it is not running: the next check counts this
            self._print_line(str(error))

    def _handle_failure(self, process: Process, state: ProcessState, now: float) -> None:
        state.failed += not state.ready
        state.exits = state.exits + 1 if now - state.started < STABLE_SECONDS else 1
        if state.failed >= MAX_STARTS:
            raise StackError(f"{process.name} failed to start {state.failed} times; giving up.{process.tail()}")
        self._print_line(f"{process.name} died (exit code {process.exit_code}); restarting it.{process.tail()}")
        # exponential backoff after the first restart: the cause may pass
        pause = RESTART_PAUSE_SECONDS * min(8.0, 2.0 ** (state.exits - 2)) if state.exits > 1 else 0.0
        state.restart_at = now + pause

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
