"""Steps without work: the throughput of claiming and committing, and the time of a claim in a large table."""

from __future__ import annotations

import multiprocessing
import time
import uuid
from typing import Any

from rich.table import Table
from sqlalchemy import text

from db.models import StepKind
from db.queue import leases
from db.queue.claims import claim_parameters, claim_query, claim_steps
from db.queue.transaction import job_transaction
from db.session import Sessions, make_sessions
from db.settings import Settings
from tasks.handler import Handler
from tasks.runtime import Runtime
from tasks.step import run
from tests.jobs import make_job

STEP_COUNT = 4000


def throughput(settings: Settings) -> Table:
    table = Table(title=f"{STEP_COUNT} steps without work, claimed and committed one by one, from 20 jobs")
    for heading in ("worker processes", "steps a second"):
        table.add_column(heading)
    sessions = make_sessions(settings, name="bench")
    for workers in (1, 2, 4):
        for _ in range(20):
            _make_job(sessions, STEP_COUNT // 20)
        processes = [multiprocessing.Process(target=_run_until_idle, args=(settings,)) for _ in range(workers)]
        started = time.monotonic()
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        table.add_row(str(workers), f"{STEP_COUNT / (time.monotonic() - started):.0f}")
    return table


EMPTY_HANDLER = Handler(
    StepKind.PURGE, lambda claims, work: [None] * len(claims), lambda tx, claim, output: None, deadline=60
)


def _run_until_idle(settings: Settings) -> None:
    runtime = Runtime(settings)
    while run(EMPTY_HANDLER, runtime):
        pass


def _make_job(sessions: Sessions, count: int) -> uuid.UUID:
    job_id = make_job(sessions)
    with job_transaction(sessions, job_id) as transaction:
        transaction.skip_open_steps()
        for chunk in range(count):
            transaction.enqueue(StepKind.PURGE, chunk)
    return job_id


def claim_growth(settings: Settings) -> list[Any]:
    """The time of a claim among a growing number of finished steps."""
    table = Table(title="one claim of 4 steps, 100 jobs waiting")
    for heading in ("rows in steps", "milliseconds", "sequential scans"):
        table.add_column(heading)
    sessions = make_sessions(settings, name="bench")
    job_ids = [_make_job(sessions, 20) for _ in range(100)]
    plan: list[str] = []
    rows = 0
    for target in (1_000, 10_000, 100_000, 1_000_000):
        with sessions.begin() as session:
            session.execute(
                text(
                    "INSERT INTO steps (job_id, kind, chunk, state, finished_at) "
                    "SELECT :job, 'draft', n, 'done', now() "
                    "FROM generate_series(CAST(:low AS int), CAST(:high AS int)) n"
                ),
                {"job": job_ids[0], "low": rows + 1, "high": target},
            )
        rows = target
        with sessions() as session:
            session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            session.execute(text("ANALYZE steps"))
        durations = []
        for _ in range(20):
            started = time.perf_counter()
            claimed = claim_steps(sessions, StepKind.PURGE, 4, "bench", settings)
            durations.append(time.perf_counter() - started)
            for claim in claimed:
                with job_transaction(sessions, claim.job_id) as transaction:
                    leases.requeue(transaction.session, claim, "again")
        with sessions() as session:
            explained = session.scalars(
                text(f"EXPLAIN {claim_query(4, 4, shared=False).text}"),
                claim_parameters(StepKind.PURGE, "bench", settings),
            )
            plan = [line for line in explained if "on steps" in line or "on lanes" in line]
        scans = sum("Seq Scan" in line for line in plan)
        table.add_row(f"{target:,}", f"{1000 * sorted(durations)[len(durations) // 2]:.1f}", str(scans))
    return [table, "How a claim finds its steps among a million:", *sorted({line.strip(" ->") for line in plan})]
