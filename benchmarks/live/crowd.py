"""Many sessions on gateways whose ASR is faked at its measured cost in time: memory, and delays of events."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import psutil
from rich.table import Table

from benchmarks.live.chorus import sing
from benchmarks.recordings import sources
from benchmarks.stack import running_parts
from cli.stack.process import HOST, free_port
from cli.stack.stack import Stack
from speech.engines import SAMPLE_RATE

SECONDS = 40.0
STEPS = (50, 100, 200, 500)
PROCESSES = (1, 2)


def measure(speech: Path, steps: Sequence[int] = STEPS) -> Table:
    table = Table(title="sessions of gateways, ASR faked; voice detection, recording and rows are real")
    for heading in (
        "sessions",
        "processes",
        "MB a session",
        "event delay p50, p99 (ms)",
        "final p50, p99 (s)",
        "cores: gateways, clients",
        "behind real time (s)",
    ):
        table.add_column(heading)
    samples = np.concatenate([each for each, _ in sources(speech)])[: int(SECONDS * SAMPLE_RATE)]
    with TemporaryDirectory() as folder, running_parts(Path(folder), ("postgres", "redis", "s3")) as started:
        for count, processes in product(steps, PROCESSES):
            with contextlib.ExitStack() as gateways:
                pairs = [gateways.enter_context(gateway(started, count)) for _ in range(processes)]
                table.add_row(str(count), str(processes), *_crowd(pairs, samples, count))
    return table


def _crowd(gateways: Sequence[tuple[str, psutil.Process]], samples: np.ndarray, count: int) -> list[str]:
    urls, processes = [url for url, _ in gateways], [process for _, process in gateways]
    idle, used, own, began = _memory(processes), _used(processes), time.process_time(), time.monotonic()
    with _Peak(processes) as peak:
        voices = sing(urls, samples, count, options={"diarize": False, "language": "en"})
    wall = time.monotonic() - began
    p50, p99 = _delays(urls)
    finals = np.concatenate([voice.delays for voice in voices])
    behind = max(voice.ended - len(samples) / SAMPLE_RATE for voice in voices if voice.ended is not None)
    return [
        f"{(peak.bytes - idle) / count / 1e6:.2f}",
        f"{p50:.0f}, {p99:.0f}",
        f"{np.percentile(finals, 50):.2f}, {np.percentile(finals, 99):.2f}",
        f"{(_used(processes) - used) / wall:.2f}, {(time.process_time() - own) / wall:.2f}",
        f"{behind:.1f}",
    ]


class _Peak:
    """The largest memory that processes have together, looked at twice a second."""

    def __init__(self, processes: Sequence[psutil.Process]) -> None:
        self._processes = processes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.bytes = 0

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            self.bytes = max(self.bytes, _memory(self._processes))


def _memory(processes: Sequence[psutil.Process]) -> int:
    return sum(process.memory_info().rss for process in processes)


def _used(processes: Sequence[psutil.Process]) -> float:
    """Seconds of processors."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


@contextlib.contextmanager
def gateway(started: Stack, sessions: int) -> Iterator[tuple[str, psutil.Process]]:
    port = free_port()
    room = {"LONGHAND_LIVE_SESSIONS": str(sessions), "LONGHAND_MAX_WAITING_STEPS": "1000000"}
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.live.fake_gateway", str(port), str(sessions)],
        env={**os.environ, **started.environment, **room},
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"http://{HOST}:{port}/readyz")
                break
            if time.monotonic() > deadline:
                raise TimeoutError("the gateway does not start")
            time.sleep(0.1)
        yield f"ws://{HOST}:{port}", psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def _delays(urls: Sequence[str]) -> tuple[float, float]:
    """Median and 99th percentile of ``event_delay_ms``, interpolated within its buckets."""
    counts: dict[float, float] = {}
    for url in urls:
        for line in httpx.get(url.replace("ws:", "http:") + "/metrics").text.splitlines():
            if line.startswith('event_delay_ms_bucket{le="'):
                bound = float(line.split('"')[1])
                counts[bound] = counts.get(bound, 0.0) + float(line.rsplit(" ", 1)[1])
    buckets = sorted(counts.items())
    total = buckets[-1][1]

    def quantile(part: float) -> float:
        below, count_below = 0.0, 0.0
        for bound, count in buckets:
            if count >= part * total:
                inside = (part * total - count_below) / max(1.0, count - count_below)
                return below + inside * (bound - below) if np.isfinite(bound) else below
            below, count_below = bound, count
        return below

    return quantile(0.5), quantile(0.99)
