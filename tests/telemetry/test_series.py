"""However many tenants, jobs and addresses there are, as many series are exported."""

from __future__ import annotations

import asyncio
import re
import uuid
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import REGISTRY
from sqlalchemy import text
from starlette.types import Message, Receive, Scope, Send

from api.metered import Metered
from db.models import EventType, Job, JobPurpose, Priority, StepKind
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction, LoggedEvent
from db.session import Sessions
from db.telemetry.exposition import Together, render
from db.telemetry.jobs import count_events
from db.telemetry.queue import QueueCollector
from live import metrics as live_metrics
from tasks.observed import Ending, Outcome, ending, observed, tell

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
MANY = 10_000


def step(number: int) -> None:
    claim = Claim(number, uuid.uuid4(), StepKind.DRAFT, number, 1, number, tenant=f"tenant-{number}")
    audio = {"engine": "whisper", "model": f"version-{number}", "seconds": 9}
    with observed([claim], 4) as (attempt,), ending(attempt):
        tell(attempt, Ending(Outcome.DONE, audio=audio))


def job(number: int) -> None:
    now = datetime.now(UTC)
    made = Job(
        id=uuid.uuid4(),
        tenant=f"tenant-{number}",
        purpose=JobPurpose.RECORDING,
        priority=Priority.NORMAL,
        created_at=now,
        duration=1.0 + number,
    )
    kinds = (EventType.JOB_QUEUED, EventType.SEGMENT_DRAFT, EventType.JOB_COMPLETED)
    events = [LoggedEvent(made.id, seq, kind, now, {}) for seq, kind in enumerate(kinds, 1)]
    # what is committed is not asked of the database
    count_events(JobTransaction(None, made, events, first_segments=True))  # type: ignore[arg-type]


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})


async def request(number: int) -> None:
    async def send(message: Message) -> None:
        pass

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    scope = {"type": "http", "method": f"M{number}", "path": f"/{uuid.uuid4()}"}
    await Metered(answer)(scope, receive, send)


async def send_all(count: int) -> None:
    for number in range(count):
        step(number)
        job(number)
        await request(number)


def series(collector: Together) -> set[str]:
    body, _ = render(collector, "")
    return {line.rpartition(" ")[0] for line in body.decode().splitlines() if not line.startswith("#")}


FILL = """
    INSERT INTO jobs (id, tenant, status, filename, bytes, sha256, options, source_key)
    SELECT gen_random_uuid(), 'tenant-' || n, 'processing', 'talk.flac', 1, '', '{}', 'k'
    FROM generate_series(1, :count) n;
    INSERT INTO tenants (name) SELECT 'tenant-' || n FROM generate_series(1, :count, 2) n;
    INSERT INTO steps (job_id, kind) SELECT id, 'ingest' FROM jobs
"""


def test_ten_thousand_tenants_and_jobs_make_no_more_series(sessions: Sessions) -> None:
    for count in (2, MANY):
        asyncio.run(send_all(count))
        with sessions.begin() as session:
            for statement in ("DELETE FROM jobs", "DELETE FROM tenants", *FILL.split(";")):
                session.execute(text(statement), {"count": count} if ":count" in statement else {})
        found = series(Together(QueueCollector(sessions)))
        if count == 2:
            before = found
    assert found - before == set()
    assert 'longhand_jobs{priority="normal",status="processing",tenant_class="limited"}' in found
    assert 'longhand_queue_waiting_steps{kind="ingest"}' in found
    assert not any("tenant-" in one for one in found)


UNITS = ("_seconds", "_bytes", "_ratio", "_rtf", "_total", "_connections")
COUNTED = {
    *("longhand_jobs", "longhand_workers", "longhand_worker_slots", "longhand_worker_busy_slots"),
    *("longhand_build_info", "longhand_database_pool_size", "longhand_database_readable"),
    *("longhand_sse_streams", "longhand_sse_replay_events", "longhand_batch_chunks", "longhand_model_versions"),
    *(f"longhand_queue_{state}_steps" for state in ("waiting", "delayed", "running")),
}
"""What is counted in things, which has no unit."""


def names(sessions: Sessions) -> set[str]:
    """As queries name them, without the suffixes of histograms."""
    families = [*REGISTRY.collect(), *QueueCollector(sessions).collect()]
    return {
        family.name + ("_total" if family.type == "counter" else "")
        for family in families
        if not family.name.startswith(("python_", "process_"))
    }


def test_names_follow_the_conventions(sessions: Sessions) -> None:
    live = {one._name for one in vars(live_metrics).values() if hasattr(one, "_name")}
    ours = {name for name in names(sessions) if name.removesuffix("_total") not in live}
    assert all(name.startswith("longhand_") for name in ours)
    assert {name for name in ours if not name.endswith(UNITS)} == COUNTED


def test_the_documentation_has_every_name_and_no_other(sessions: Sessions) -> None:
    chapter, _, _ = DOCS.read_text().partition("\n## Traces")
    told = re.findall(r"^\| `([a-z0-9_]+)", chapter, re.MULTILINE)
    gpu = {"longhand_gpu_memory_used_bytes", "longhand_gpu_memory_total_bytes", "longhand_gpu_utilization_ratio"}
    assert set(told) - gpu == names(sessions)
    assert gpu <= set(told)
    assert len(told) == len(set(told))
