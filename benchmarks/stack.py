"""Whole stacks of real processes, with memory sampling."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import psutil

from benchmarks.recordings import text_of
from cli.stack.stack import PARTS, PORTS, Plan, Stack, running_stack
from db.settings import Settings
from longhand import Client, JobOptions


@contextlib.contextmanager
def running_parts(folder: Path, parts: Sequence[str]) -> Iterator[Stack]:
    """Some parts of a stack, on free ports."""
    with running_stack(Plan(folder, parts=parts, ports=dict.fromkeys(PORTS, 0)), lambda line: None) as started:
        yield started


@contextlib.contextmanager
def stack(folder: Path) -> Iterator[tuple[Stack, Client]]:
    """A whole stack on free ports, with data of its own."""
    with running_parts(folder, PARTS) as started:
        yield started, Client(started.api_url)


def settings_of(started: Stack) -> Settings:
    """The settings that the stack's processes run with."""
    return Settings.model_validate(
        {name.removeprefix("LONGHAND_").lower(): value for name, value in started.environment.items()}
    )


class Memory:
    """The largest resident memory of each process of a stack, in MB, sampled five times a second."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._stop = threading.Event()
        self.peak: dict[str, float] = {}
        self.idle: dict[str, float] = {}

    def __enter__(self) -> Memory:
        self._sample()
        self.idle = dict(self.peak)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            self._sample()

    def _sample(self) -> None:
        for name, pid in self._stack.supervisor.pids().items():
            with contextlib.suppress(psutil.NoSuchProcess):
                used = psutil.Process(pid).memory_info().rss / 1e6
                self.peak[name] = max(self.peak.get(name, 0.0), used)


@dataclass
class Run:
    """One job, from the end of its upload; times in seconds."""

    wall: float
    first_draft: float | None
    text: str
    peak: dict[str, float] = field(default_factory=dict)


def transcribe(started: Stack, client: Client, recording: Path, **options: str) -> Run:
    """Send a recording through the stack and wait for its last event."""
    with Memory(started) as memory:
        job = client.jobs.submit(recording, cast(JobOptions, options))
        uploaded = time.monotonic()
        first_draft, outcome = None, None
        for event in client.jobs.events(job["id"]):
            if event.type == "segment.draft" and first_draft is None:
                first_draft = time.monotonic() - uploaded
            outcome = event.type
        wall = time.monotonic() - uploaded
    if outcome != "job.completed":
        raise RuntimeError(f"the job ended with {outcome}")
    segments = client.jobs.transcript(job["id"])["segments"]
    return Run(wall, first_draft, text_of(segments), memory.peak)
