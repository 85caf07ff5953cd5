"""A thousand subscribers of one API process: event latency and memory of each."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
import uuid
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import psutil
from rich.table import Table

from benchmarks.stack import running_parts, settings_of
from db.events.bus import Bus
from db.models import EventType
from db.queue.transaction import job_transaction
from db.session import make_sessions
from db.settings import Settings
from tests.jobs import make_job

EVENTS_PER_SECOND = 5
DURATION_SECONDS = 20
JOB_COUNT = 10
"""Subscribers are spread over the jobs."""


def measure(counts: Sequence[int] = (100, 1000)) -> Table:
    rate = f"{EVENTS_PER_SECOND} events a second for {DURATION_SECONDS} s"
    table = Table(title=f"{rate} over {JOB_COUNT} jobs, one API process")
    for heading in ("subscribers", "delivered", "p50", "p99", "slowest", "memory a subscriber"):
        table.add_column(heading)
    for count in counts:
        with (
            TemporaryDirectory() as folder,
            running_parts(Path(folder), ("postgres", "redis", "s3", "api")) as stack,
        ):
            settings = settings_of(stack)
            table.add_row(str(count), *_row(settings, stack.api_url, stack.supervisor.pids()["api"], count))
    return table


def _row(settings: Settings, url: str, api: int, count: int) -> list[str]:
    sessions, bus = make_sessions(settings, name="bench"), Bus(settings)
    ids = [make_job(sessions) for _ in range(JOB_COUNT)]
    before = psutil.Process(api).memory_info().rss
    pipe, client_pipe = multiprocessing.Pipe()
    client = multiprocessing.Process(target=_subscribe, args=(url, ids, count, client_pipe))
    client.start()
    pipe.recv()
    memory = (psutil.Process(api).memory_info().rss - before) / count / 1024
    sent: dict[tuple[str, int], float] = {}
    started = time.monotonic()
    for number in range(EVENTS_PER_SECOND * DURATION_SECONDS):
        job_id = ids[number % JOB_COUNT]
        with job_transaction(sessions, job_id) as transaction:
            transaction.emit(EventType.JOB_PROGRESS, {"number": number})
        sent[str(job_id), transaction.events[0].seq] = time.monotonic()
        bus.publish(transaction.events)
        time.sleep(max(0.0, started + (number + 1) / EVENTS_PER_SECOND - time.monotonic()))
    time.sleep(2)
    pipe.send("stop")
    received: list[tuple[str, int, float]] = pipe.recv()
    client.join()
    lags = sorted(at - sent[job, seq] for job, seq, at in received if (job, seq) in sent)
    expected = (
        sum(len(range(n, count, JOB_COUNT)) for n in range(JOB_COUNT))
        * EVENTS_PER_SECOND
        * DURATION_SECONDS
        // JOB_COUNT
    )
    cuts = quantiles(lags, n=100)
    times = [f"{1000 * value:.0f} ms" for value in (cuts[49], cuts[98], lags[-1])]
    return [f"{len(lags)} of {expected}", *times, f"{memory:.0f} KB"]


def _subscribe(url: str, ids: Sequence[uuid.UUID], count: int, pipe: Connection) -> None:
    asyncio.run(_all(url, ids, count, pipe))


async def _all(url: str, ids: Sequence[uuid.UUID], count: int, pipe: Connection) -> None:
    received: list[tuple[str, int, float]] = []
    host = urlsplit(url)
    ready = asyncio.Semaphore(0)

    async def one(job_id: str) -> None:
        reader, writer = await asyncio.open_connection(host.hostname, host.port, limit=2**20)
        writer.write(f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        first = True
        while line := await reader.readline():
            if line.startswith(b"id: "):
                received.append((job_id, int(line[4:]), time.monotonic()))
                if first:
                    ready.release()
                    first = False

    tasks = []
    for number in range(count):
        tasks.append(asyncio.create_task(one(str(ids[number % JOB_COUNT]))))
        if number % 50 == 49:
            await asyncio.sleep(0.1)
    for _ in range(count):
        await ready.acquire()
    pipe.send("ready")
    await asyncio.to_thread(pipe.recv)
    for task in tasks:
        task.cancel()
    pipe.send(received)
