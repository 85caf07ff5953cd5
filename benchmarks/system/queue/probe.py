"""Measures the queue of whatever commit is on the path: ``python probe.py PHASE JSON``, results as JSON on stdout.

It runs in processes of its own, and uses nothing that only one of two commits has.
"""

from __future__ import annotations

import json
import logging
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import text

from benchmarks.system import overhead
from db.models import StepKind
from db.prepare import prepare
from db.queue.claims import claim_steps
from db.queue.transaction import job_transaction
from db.session import Sessions, make_sessions
from db.settings import Settings
from tasks.handler import Handler
from tasks.maintenance.healing import heal
from tasks.queue import app
from tasks.runtime import Runtime
from tasks.step import run
from tests.jobs import make_job

CLAIMS = 30
STEP_COUNT = 4000
JOB_COUNT = 20


FILL = (
    # without foreign keys and triggers: the largest part of the time
    "SET LOCAL session_replication_role = replica",
    "SET LOCAL statement_timeout = 0",
    """
    INSERT INTO jobs (id, tenant, status, priority, filename, bytes, sha256, options, source_key, ingested, chunks,
                      created_at)
    SELECT gen_random_uuid(), 'tenant ' || n % CAST(:tenants AS int), 'processing',
           (ARRAY['high', 'normal', 'low'])[1 + n % 3]::priority, 'talk.flac', 1, '', '{}', '', true, :done,
           now() - n * interval '1 s'
    FROM generate_series(1, CAST(:jobs AS int)) n
    """,
    """
    INSERT INTO steps (job_id, kind, chunk, state, claimed_at, finished_at, attempt)
    SELECT id, 'draft', n, 'done', now(), now(), 1 FROM jobs, generate_series(1, CAST(:done AS int)) n
    """,
    "INSERT INTO steps (job_id, kind, chunk) SELECT id, 'refine', n FROM jobs, generate_series(1, 2) n",
)


def noop(settings: Settings, *, batch: int = 1, count: int = STEP_COUNT, **_: Any) -> dict[str, float]:
    """Steps that do nothing, by one thread that claims up to ``batch`` of them at once."""
    sessions = make_sessions(settings, name="bench")
    for _job in range(JOB_COUNT):
        job_id = make_job(sessions)
        with job_transaction(sessions, job_id) as transaction:
            transaction.skip_open_steps()
            for chunk in range(count // JOB_COUNT):
                transaction.enqueue(StepKind.PURGE, chunk)
    handler = Handler(
        StepKind.PURGE,
        lambda claims, work: [None] * len(claims),
        lambda tx, claim, output: None,
        deadline=60,
        batch=lambda runtime: batch,
    )
    runtime = Runtime(settings)
    started, own = time.perf_counter(), time.process_time()
    while run(handler, runtime):
        pass
    seconds, own = time.perf_counter() - started, time.process_time() - own
    with sessions() as session:
        worker = "SELECT pid FROM pg_stat_activity WHERE application_name = 'longhand-worker'"
        times = [psutil.Process(pid).cpu_times() for pid in session.scalars(text(worker))]
    return {
        "a second": count / seconds,
        # of processors, which other work on the machine does not change
        "ms of the worker": 1000 * own / count,
        "ms of PostgreSQL": 1000 * sum(each.user + each.system for each in times) / count,
    }


def fill(settings: Settings, *, jobs: int, steps: int, tenants: int, **_: Any) -> dict[str, float]:
    """Active jobs of so many tenants, each with two steps that wait for refinement and many that are done."""
    sessions = make_sessions(settings, name="bench")
    started = time.perf_counter()
    values = {"jobs": jobs, "done": max(1, steps // jobs - 2), "tenants": tenants}
    with sessions.begin() as session:
        for statement in FILL:
            session.execute(text(statement), values)
    vacuum(sessions)
    return {"seconds": time.perf_counter() - started}


def vacuum(sessions: Sessions) -> None:
    with sessions() as session:
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        session.execute(text("SET statement_timeout = 0"))
        session.execute(text("VACUUM ANALYZE"))
        # else the disk is busy with what was filled, and every commit waits for it
        session.execute(text("CHECKPOINT"))


def migrate(settings: Settings, **_: Any) -> dict[str, float]:
    started = time.perf_counter()
    prepare(settings)
    vacuum(make_sessions(settings, name="bench"))
    return {"seconds": time.perf_counter() - started}


def claims(settings: Settings, *, tenants: int, **_: Any) -> dict[str, float]:
    """A claim among all that waits, with limits of tenants and without, and in vain; a round of healing."""
    sessions = make_sessions(settings, name="bench")
    limited = settings.model_copy(update={"tenant_limits": {"*": 100}})
    nothing = {f"tenant {number}": 0 for number in range(tenants * 4 // 5)}
    full = settings.model_copy(update={"tenant_limits": {"*": 1000} | nothing})
    results = {}
    for name, chosen, kind, limit in (
        ("1 step", settings, StepKind.REFINE, 1),
        ("16 steps", settings, StepKind.REFINE, 16),
        ("1 step, tenants limited", limited, StepKind.REFINE, 1),
        ("16 steps, tenants limited", limited, StepKind.REFINE, 16),
        ("16 steps, four of five tenants at their limit", full, StepKind.REFINE, 16),
        ("nothing there", limited, StepKind.ALIGN, 8),
    ):

        def claim(chosen: Settings = chosen, kind: StepKind = kind, limit: int = limit) -> None:
            claim_steps(sessions, kind, limit, "bench", chosen)

        results[name] = _median(claim)
    runtime = Runtime(settings)
    results["round of healing"] = _median(lambda: heal(runtime), 5)
    return results


def _median(call: Callable[[], None], times: int = CLAIMS) -> float:
    """Milliseconds, after three calls that warm up."""
    durations = []
    for _ in range(times + 3):
        started = time.perf_counter()
        call()
        durations.append(1000 * (time.perf_counter() - started))
    return statistics.median(durations[3:])


def statements(settings: Settings, *, recording: str, **_: Any) -> dict[str, float]:
    """A recording through the pipeline with engines that cost nothing: statements for each of its chunks."""
    _, counts, steps = overhead._run_job(settings, Path(recording), instant=True)
    kinds = {str(kind): counts[kind] / steps["draft"] for kind in counts}
    return {"a chunk": sum(counts.values()) / steps["draft"], **kinds}


PHASES: dict[str, Callable[..., dict[str, float]]] = {
    "noop": noop,
    "fill": fill,
    "migrate": migrate,
    "claims": claims,
    "statements": statements,
}

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    values = json.loads(sys.argv[2])
    given = Settings.model_validate(values.pop("settings"))
    app.conf.update(broker_url=given.redis_url)
    print(json.dumps(PHASES[sys.argv[1]](given, **values)))
