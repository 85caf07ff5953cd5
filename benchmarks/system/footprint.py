"""What an hour of audio asks of Postgres, S3 and Redis, and so what a day of many hours does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from redis import Redis
from rich.console import Group
from rich.table import Table
from sqlalchemy import event, text

from benchmarks.recordings import build
from benchmarks.stack import running_parts, settings_of
from benchmarks.system.overhead import STEP_MODULES, TimedEngines
from db.models import Job, JobStatus
from db.objects.storage import job_prefix
from db.settings import Settings
from tasks.queue import app
from tasks.runtime import Runtime
from tasks.step import run
from tests.jobs import make_job

DAYS = (1_000, 10_000, 100_000)
"""Hours of audio in a day."""
PEAK = 2.0
"""The busiest hour beside the mean one (``arrivals.py``)."""


@dataclass
class Footprint:
    """Of one recording."""

    chunks: int = 0
    counts: Counter[str] = field(default_factory=Counter)


def measure(minutes: float, speech: Path) -> Group:
    with (
        TemporaryDirectory() as folder,
        running_parts(Path(folder) / "stack", ("postgres", "redis", "s3")) as started,
    ):
        settings = settings_of(started)
        app.conf.update(broker_url=settings.redis_url)
        recording = build(Path(folder) / "recording.flac", minutes, speech)
        footprint = _transcribe(settings, recording.path)
    hours = recording.duration / 3600
    return Group(_by_chunk(footprint, hours), _by_day(footprint, hours))


def _by_chunk(footprint: Footprint, hours: float) -> Table:
    table = Table(title=f"{footprint.chunks / hours:.0f} chunks an hour, with speakers, engines of no cost")
    for heading in ("", "an hour of audio", "a chunk"):
        table.add_column(heading)
    for name, count in footprint.counts.items():
        table.add_row(name, f"{count / hours:,.0f}", f"{count / footprint.chunks:,.1f}")
    return table


def _by_day(footprint: Footprint, hours: float) -> Table:
    table = Table(title=f"in a second of the busiest hour, {PEAK:g} times the mean")
    table.add_column("")
    for day in DAYS:
        table.add_column(f"{day:,} hours a day")
    rates = {"chunks": footprint.chunks, **footprint.counts}
    for name, count in rates.items():
        table.add_row(name, *(f"{count / hours * day / 86_400 * PEAK:,.1f}" for day in DAYS))
    return table


def _transcribe(settings: Settings, recording: Path) -> Footprint:
    runtime = Runtime(settings)
    runtime.engines = TimedEngines(runtime, instant=True)
    body = recording.read_bytes()
    job_id = make_job(runtime.sessions, language="en", diarize=True, bytes=len(body))
    runtime.storage.put(f"{job_prefix(job_id)}source", body, "audio/flac")
    with _counted(runtime) as footprint:
        idle = False
        while not idle:
            idle = not any([run(module.handler, runtime) for module in STEP_MODULES])
    with runtime.sessions() as session:
        job = session.get_one(Job, job_id)
        footprint.chunks = job.chunks
        if job.status != JobStatus.COMPLETED:
            raise RuntimeError("the job was not completed")
    return footprint


@contextmanager
def _counted(runtime: Runtime) -> Iterator[Footprint]:
    """What the block asks of the servers."""
    footprint = Footprint()
    counts = footprint.counts
    engine = runtime.sessions.kw["bind"]

    def transaction(*_: Any) -> None:
        counts["Postgres: transactions"] += 1

    def statement(*_: Any) -> None:
        counts["Postgres: statements"] += 1

    def sent(request: Any, **_: Any) -> None:
        counts[f"S3: {request.method}"] += 1
        counts["S3: kB written"] += int(request.headers.get("Content-Length") or 0) // 1000

    def received(parsed: dict[str, Any], **_: Any) -> None:
        counts["S3: kB read"] += int(parsed.get("ContentLength", 0)) // 1000 if "Body" in parsed else 0

    redis = Redis.from_url(runtime.settings.redis_url)
    before, wal = _redis_counts(redis), _wal_bytes(runtime)
    event.listen(engine, "begin", transaction)
    event.listen(engine, "before_cursor_execute", statement)
    runtime.storage.client.meta.events.register("before-send.s3", sent)
    runtime.storage.client.meta.events.register("after-call.s3", received)
    yield footprint
    event.remove(engine, "begin", transaction)
    event.remove(engine, "before_cursor_execute", statement)
    counts["Postgres: kB of log (WAL)"] = (_wal_bytes(runtime) - wal) // 1000
    after = _redis_counts(redis)
    counts["Redis: commands"] = after[0] - before[0]
    counts["Redis: kB"] = (after[1] - before[1]) // 1000


def _wal_bytes(runtime: Runtime) -> int:
    with runtime.sessions() as session:
        return int(session.scalar(text("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")) or 0)


def _redis_counts(redis: Redis) -> tuple[int, int]:
    stats: Any = redis.info("stats")
    return int(stats["total_commands_processed"]), int(stats["total_net_input_bytes"])
