"""Many sessions on one gateway whose ASR is faked at its measured cost in time: memory, and delays of events."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import psutil
from rich.table import Table

from benchmarks.live.playing import play
from benchmarks.recordings import sources
from benchmarks.stack import running_parts
from cli.stack.process import HOST, free_port
from cli.stack.stack import Stack
from speech.engines import SAMPLE_RATE

SECONDS = 40.0
STEPS = (50, 100, 200, 500)


def measure(speech: Path) -> Table:
    table = Table(title="sessions of one gateway, ASR faked; voice detection, recording and rows are real")
    for heading in (
        "sessions",
        "MB a session",
        "event delay p50 (ms)",
        "p99 (ms)",
        "cores",
        "behind real time (s)",
    ):
        table.add_column(heading)
    samples = np.concatenate([each for each, _ in sources(speech)])[: int(SECONDS * SAMPLE_RATE)]
    with TemporaryDirectory() as folder, running_parts(Path(folder), ("postgres", "redis", "s3")) as started:
        for count in STEPS:
            with gateway(started, count) as (url, process):
                idle = process.memory_info().rss
                before, began = sum(process.cpu_times()[:2]), time.monotonic()
                behind, peak = asyncio.run(_crowd(url, process, samples, count))
                cores = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)
                p50, p99 = _delays(url)
                table.add_row(
                    str(count),
                    f"{(peak - idle) / count / 1e6:.2f}",
                    f"{p50:.0f}",
                    f"{p99:.0f}",
                    f"{cores:.2f}",
                    f"{behind:.1f}",
                )
    return table


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


async def _crowd(url: str, process: psutil.Process, samples: np.ndarray, count: int) -> tuple[float, int]:
    """How much later than spoken the slowest session ended, and the largest memory."""
    peak = 0

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, process.memory_info().rss)
            await asyncio.sleep(0.5)

    async def one(number: int) -> float:
        # spread over two seconds, as people do not begin together
        await asyncio.sleep(2 * number / count)
        began = time.monotonic()
        await play(url, samples, options={"diarize": False, "language": "en"})
        return time.monotonic() - began - len(samples) / SAMPLE_RATE

    watching = asyncio.create_task(watch())
    behind = await asyncio.gather(*map(one, range(count)))
    watching.cancel()
    return max(behind), peak


def _delays(url: str) -> tuple[float, float]:
    """Median and 99th percentile of ``event_delay_ms``, interpolated within its buckets."""
    buckets = []
    for line in httpx.get(url.replace("ws:", "http:") + "/metrics").text.splitlines():
        if line.startswith('event_delay_ms_bucket{le="'):
            bound = line.split('"')[1]
            buckets.append((float(bound), float(line.rsplit(" ", 1)[1])))
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
