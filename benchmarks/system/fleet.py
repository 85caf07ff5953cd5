"""Hundreds of workers that have nothing to do: what they ask of PostgreSQL, and how soon a recording is drafted.

Each is a thread that waits for hints in Redis, as a worker does, and looks after the queue with a real watchdog.
Steps are real, but for the engines, which cost nothing.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import statistics
import threading
import time
from contextlib import suppress
from multiprocessing.synchronize import Event as Stop
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from redis import Redis
from rich.table import Table
from sqlalchemy import func, select, text

from benchmarks.recordings import build
from benchmarks.stack import running_parts, settings_of
from benchmarks.system.overhead import TimedEngines
from db.models import Event, EventType, Job, StepKind
from db.objects.storage import job_prefix
from db.prepare import prepare
from db.session import make_sessions
from db.settings import Settings
from tasks.queue import app, send_hints
from tasks.registry import claim_and_run, last_hint
from tasks.runtime import Runtime
from tests.jobs import make_job
from tests.waiting import until
from workers.watchdog import Watchdog

PROCESSES = 4
CONNECTIONS = 30
"""Of each process, among its workers, as behind a pooler."""
QUEUES = ("cpu", "gpu", "io")
RECORDINGS = 20
SECONDS_OF_SPEECH = 10.0


def measure(workers: int, seconds: float, speech: Path) -> Table:
    with (
        TemporaryDirectory() as folder,
        running_parts(Path(folder) / "stack", ("postgres", "redis", "s3")) as started,
    ):
        settings = settings_of(started).model_copy(update={"database_pool": CONNECTIONS})
        prepare(settings)
        postgres = psutil.Process(started.supervisor.pids()["postgres"])
        recording = build(Path(folder) / "recording.flac", SECONDS_OF_SPEECH / 60, speech)
        context = multiprocessing.get_context("spawn")
        stop = context.Event()
        each = workers // PROCESSES
        fleet = [context.Process(target=_serve, args=(settings, each, stop)) for _ in range(PROCESSES)]
        for process in fleet:
            process.start()
        try:
            redis = Redis.from_url(settings.redis_url)
            until(lambda: redis.hlen("longhand.workers") >= each * PROCESSES, "all are there")
            statements = _statements(settings)
            busy, began = _cpu_seconds(postgres), time.monotonic()
            time.sleep(seconds)
            busy, passed = _cpu_seconds(postgres) - busy, time.monotonic() - began
            rate = (_statements(settings) - statements) / passed
            drafted = _drafted_after(settings, recording.path.read_bytes())
        finally:
            stop.set()
            for process in fleet:
                process.join()
    table = Table("workers", "cores of PostgreSQL", "transactions a second", "first draft: median", "longest")
    table.title = f"workers that have nothing to do, for {passed:.0f} s"
    times = (f"{statistics.median(drafted):.2f} s", f"{max(drafted):.2f} s")
    table.add_row(str(workers), f"{busy / passed:.3f}", f"{rate:.0f}", *times)
    table.caption = f"first drafts of {RECORDINGS} recordings of {SECONDS_OF_SPEECH:.0f} s, one after the other"
    return table


def _serve(settings: Settings, count: int, stop: Stop) -> None:
    app.conf.update(broker_url=settings.redis_url)
    runtime = Runtime(settings)
    runtime.engines = TimedEngines(runtime, instant=True)
    runtime.engines.vad.stream()
    runtime.decoder.start()
    threads = [
        threading.Thread(target=_work, args=(settings, runtime, n, stop), daemon=True) for n in range(count)
    ]
    for thread in threads:
        thread.start()
    stop.wait()


def _work(settings: Settings, shared: Runtime, number: int, stop: Stop) -> None:
    runtime = Runtime(settings)
    runtime.worker = f"{shared.worker}:{number}"
    # connections and engines are those of the process
    runtime.__dict__ |= {"sessions": shared.sessions, "storage": shared.storage, "engines": shared.engines}
    queue = QUEUES[number % len(QUEUES)]
    watchdog = Watchdog(runtime, queue)
    redis = Redis.from_url(settings.redis_url, socket_timeout=None)
    while not stop.is_set():
        watchdog.look()
        look_at = time.monotonic() + settings.heal_seconds * random.uniform(0.8, 1.2)
        while (left := look_at - time.monotonic()) > 0:
            if (hint := redis.blpop([queue], timeout=left)) is not None:
                last_hint.at = time.monotonic()
                claim_and_run(json.loads(hint[1])["headers"]["task"].removeprefix("longhand."), runtime)


def _cpu_seconds(postgres: psutil.Process) -> float:
    """Of all its processes, those that have ended included."""
    ended = postgres.cpu_times()
    total = float(ended.children_user + ended.children_system)
    for process in (postgres, *postgres.children(recursive=True)):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            # in nanoseconds: what each takes is less than a tick
            total += int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]) / 1e9
    return total


def _statements(settings: Settings) -> int:
    with make_sessions(settings, name="bench")() as session:
        return int(session.scalar(text("SELECT sum(xact_commit) FROM pg_stat_database")) or 0)


def _drafted_after(settings: Settings, body: bytes) -> list[float]:
    """Seconds from each job to its first draft, as PostgreSQL's clock has them."""
    runtime = Runtime(settings)
    app.conf.update(broker_url=settings.redis_url)
    return [_first_draft(runtime, body) for _ in range(RECORDINGS)]


def _first_draft(runtime: Runtime, body: bytes) -> float:
    job_id = make_job(runtime.sessions, bytes=len(body), options={"language": "en"})
    runtime.storage.put(f"{job_prefix(job_id)}source", body, "audio/flac")
    send_hints([StepKind.INGEST])
    drafted = (
        select(func.extract("epoch", Event.at - Job.created_at))
        .join(Job, Job.id == Event.job_id)
        .where(Event.job_id == job_id, Event.type == EventType.SEGMENT_DRAFT)
        .order_by(Event.seq)
        .limit(1)
    )

    def look() -> float | None:
        with runtime.sessions() as session:
            found = session.scalar(drafted)
            return None if found is None else float(found)

    return until(look, "the recording is drafted")
