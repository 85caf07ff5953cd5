"""Runs the probes of this commit and of another one on the same servers, one after the other."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
from rich.console import Group
from rich.table import Table
from sqlalchemy import make_url, text

from benchmarks.recordings import build
from benchmarks.stack import running_parts, settings_of
from benchmarks.system.queue.probe import vacuum
from db.queue import lanes
from db.session import make_sessions
from db.settings import Settings

HERE = Path(__file__).parents[3]
MINUTES = 10
BATCHES = (1, 8)
"""How many steps are claimed at once: one of most kinds, and eight of ``align``, which does little."""


def measure(beside: str | None, jobs: int, steps: int, tenants: int, speech: Path) -> Group:
    """``beside``: the commit to measure on the same data, if any."""
    with TemporaryDirectory() as name, running_parts(Path(name) / "stack", ("postgres", "redis", "s3")) as started:
        folder, settings = Path(name), settings_of(started)
        recording = build(folder / "recording.flac", MINUTES, speech).path
        with _checkout(beside, folder) as other:
            commits = {"this commit": HERE} if other is None else {beside or "": other, "this commit": HERE}
            small = {name: _small(path, settings, recording) for name, path in commits.items()}
            large = _large(commits, settings, jobs, steps, tenants)
        others = _others(settings)
    return Group(_noop_table(small, others), _table("statements a chunk", small, "statements"), large)


@contextmanager
def _checkout(commit: str | None, folder: Path) -> Iterator[Path | None]:
    if commit is None:
        yield None
        return
    path = folder / "other"
    git = ["git", "-C", str(HERE), "worktree"]
    subprocess.run([*git, "add", "--detach", str(path), commit], check=True, capture_output=True)
    try:
        yield path
    finally:
        subprocess.run([*git, "remove", "--force", str(path)], check=True)


def _small(path: Path, settings: Settings, recording: Path) -> dict[str, dict[str, float]]:
    results = {}
    for batch in BATCHES:
        results[f"noop {batch}"] = _probe("noop", path, _migrated(settings, path), batch=batch)
    results["statements"] = _probe("statements", path, _migrated(settings, path), recording=str(recording))
    return results


def _migrated(settings: Settings, path: Path) -> Settings:
    own = _new_database(settings)
    _probe("migrate", path, own)
    return own


def _large(commits: dict[str, Path], settings: Settings, jobs: int, steps: int, tenants: int) -> Table:
    """One database for all commits, the oldest first: it is filled once, and migrated."""
    own = _new_database(settings)
    results: dict[str, dict[str, float]] = {}
    for position, (name, path) in enumerate(commits.items()):
        migrated = _probe("migrate", path, own)
        if position == 0:
            _probe("fill", path, own, jobs=jobs, steps=steps, tenants=tenants)
            migrated = {}
        else:
            migrated = {"migration": 1000 * migrated["seconds"]}
        if len(commits) == 1:
            # filled without triggers: the lanes are made anew
            _refill(own)
        results[name] = _probe("claims", path, own, tenants=tenants) | migrated
    return _table(
        f"milliseconds among {jobs:,} active jobs of {tenants:,} tenants and {steps:,} steps",
        {name: {"claims": result} for name, result in results.items()},
        "claims",
    )


def _refill(settings: Settings) -> None:
    with make_sessions(settings, name="bench").begin() as session:
        session.execute(text("SET LOCAL statement_timeout = 0"))
        jobs = session.scalars(text("SELECT id FROM jobs")).all()
        session.execute(lanes.FILL_QUERY, {"jobs": list(jobs)})
    vacuum(make_sessions(settings, name="bench"))  # as autovacuum does within a minute


def _new_database(settings: Settings) -> Settings:
    name = f"bench_{uuid.uuid4().hex[:8]}"
    url = make_url(settings.database_url)
    with psycopg.connect(_plain(settings), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return settings.model_copy(
        update={"database_url": url.set(database=name).render_as_string(hide_password=False)}
    )


def _plain(settings: Settings) -> str:
    url = make_url(settings.database_url).set(drivername="postgresql")
    return url.render_as_string(hide_password=False)


def _probe(phase: str, path: Path, settings: Settings, **values: Any) -> dict[str, float]:
    given = {"settings": settings.model_dump(mode="json", exclude_none=True, exclude_defaults=True)} | values
    script = Path(__file__).with_name("probe.py")
    return dict(_run([str(script), phase, json.dumps(given)], path))


def _run(arguments: list[str], path: Path) -> Any:
    paths = [str(path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=path, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def _others(settings: Settings) -> dict[str, float]:
    results = {}
    given = {"redis_url": settings.redis_url, "postgres_url": _plain(_new_database(settings))}
    for name in ("celery", "procrastinate"):
        if importlib.util.find_spec(name) is not None:
            results[name] = _run([str(Path(__file__).with_name("others.py")), name, json.dumps(given)], HERE)
    return results


def _noop_table(small: dict[str, dict[str, dict[str, float]]], others: dict[str, float]) -> Table:
    columns = ("a second", "ms of the worker", "ms of PostgreSQL")
    table = Table(
        "queue", "at once", *columns, title="steps or tasks that do nothing, one process with one thread"
    )
    for batch in BATCHES:
        for name, result in small.items():
            table.add_row(name, str(batch), *(f"{result[f'noop {batch}'][column]:.2f}" for column in columns))
    for name, rate in others.items():
        table.add_row({"celery": "Celery on Redis, acks late"}.get(name, name), "1", f"{rate:.0f}")
    return table


def _table(title: str, results: dict[str, dict[str, dict[str, float]]], phase: str) -> Table:
    table = Table("", *results, title=title)
    rows = dict.fromkeys(row for result in results.values() for row in result[phase])
    for row in rows:
        cells = (result[phase].get(row) for result in results.values())
        table.add_row(row, *("" if cell is None else f"{cell:.1f}" for cell in cells))
    return table
