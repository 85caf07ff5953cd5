"""Drafting and refining in parallel: a cpu worker and a gpu worker, each pinned to a core."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import psycopg
from rich.table import Table
from sqlalchemy import make_url

from benchmarks.recordings import build
from benchmarks.stack import stack
from cli.stack.stack import Stack

STEP_SPANS_SQL = """
    SELECT extract(epoch FROM claimed_at)::float, extract(epoch FROM finished_at)::float FROM steps
    WHERE job_id = %s AND kind = %s AND state = 'done' ORDER BY claimed_at
"""
WALL_SQL = "SELECT extract(epoch FROM completed_at - started_at) FROM jobs WHERE id = %s"


def measure(minutes: float, speech: Path) -> Table:
    os.environ |= {"LONGHAND_DRAFT_THREADS": "1", "LONGHAND_REFINE_THREADS": "1"}
    with TemporaryDirectory() as folder:
        recording = build(Path(folder) / "recording.flac", minutes, speech)
        with stack(Path(folder) / "stack") as (started, client):
            for name, core in (("cpu", 0), ("gpu", 1)):
                _pin(started, name, core)
            job = client.jobs.submit(recording.path, {"diarize": False, "language": "en"})["id"]
            outcome = [event.type for event in client.jobs.events(job)][-1]
            if outcome != "job.completed":
                raise RuntimeError(f"the job ended with {outcome}")
            wall, draft, refine = _times(started, job)
    longer = max(draft, refine)
    table = Table(title=f"{minutes:g} minutes; drafting and refining pinned to one core each")
    for heading in ("draft total", "refine total", "wall", "wall / longer", "wall / sum"):
        table.add_column(heading)
    ratios = (f"{wall / longer:.2f}", f"{wall / (draft + refine):.2f}")
    table.add_row(f"{draft:.1f} s", f"{refine:.1f} s", f"{wall:.1f} s", *ratios)
    return table


def _pin(started: Stack, name: str, core: int) -> None:
    for thread in psutil.Process(started.supervisor.pids()[name]).threads():
        os.sched_setaffinity(thread.id, {core})


def _times(started: Stack, job: str) -> tuple[float, float, float]:
    url = make_url(started.environment["LONGHAND_DATABASE_URL"]).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False)) as connection:
        (wall,) = connection.execute(WALL_SQL, (job,)).fetchone() or (0,)
        busy = [
            _busy_seconds(connection.execute(STEP_SPANS_SQL, (job, kind)).fetchall())
            for kind in ("draft", "refine")
        ]
    return float(wall), busy[0], busy[1]


def _busy_seconds(spans: list[tuple[float, float]]) -> float:
    """Seconds covered by at least one span; the spans are sorted by start."""
    total, until = 0.0, 0.0
    for start, end in spans:
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total
