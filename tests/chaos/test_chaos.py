"""Everything fails in turn while real recordings are transcribed, and nothing is lost."""

from __future__ import annotations

import re
import uuid
from itertools import islice
from typing import Any

import pytest
from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from db.models import Chunk, Event, UsageRecord
from db.objects.storage import Storage
from tests.chaos.audit import changes, find_losses
from tests.chaos.cluster import Cluster, until
from tests.chaos.faults import FAULTS
from tests.chaos.run import run_faults
from tests.chaos.worker import POISON
from tests.media import DATA

SEED = 20
LONG = {"hang_postgres", "hang_s3", "roll_out", "step_clock"}
"""Faults that take a while, and are left to `make chaos`."""


def test_nothing_is_lost(cluster: Cluster, baseline: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    report = run_faults(cluster, baseline, seed=SEED, rounds=1, jobs=11, faults=set(FAULTS) - LONG)
    with capsys.disabled():
        print(f"\n{report}")  # noqa: T201
    assert len(cluster.jobs) >= 20
    assert report.losses == [], "\n".join(cluster.log_lines)


def test_workers_without_hints_work_on_and_are_replaced(cluster: Cluster, baseline: dict[str, Any]) -> None:
    """Every open connection to Redis hangs without closing, while new ones work: Redis answers pings."""
    until(cluster.ready)
    cluster.redis_proxy.hang(on=True)
    cluster.redis_proxy.hang(on=False)
    job = cluster.submit(DATA / "jfk.flac", {})
    cluster.finish()
    assert changes(cluster.transcript(job), baseline["jfk.flac"]) == []
    # the worker of the first queue has noticed by now, and was restarted
    until(lambda: "cpu" in _responding_queues(cluster))


def _responding_queues(cluster: Cluster) -> set[str]:
    """The queues whose workers answer through the broker."""
    answers = cluster.celery.control.ping(timeout=3) or []
    return {name.split("@")[0] for answer in answers for name in answer}


def test_a_step_that_kills_workers_dies_and_other_jobs_complete(
    cluster: Cluster, baseline: dict[str, Any]
) -> None:
    poison = cluster.submit(DATA / "librivox_0880.flac", {"hotwords": [POISON]})
    others = [cluster.submit(DATA / name, {}) for name in ("ocean_0036.flac", "jfk.flac", "demo.flac")]
    cluster.finish()
    failed = cluster.client.jobs.get(poison.job_id)
    assert failed["status"] == "failed"
    assert failed["error"]
    assert failed["error"]["code"] == "transcription_failed"
    for job in others:
        assert cluster.client.jobs.get(job.job_id)["degraded"] is False
        assert changes(cluster.transcript(job), baseline[job.recording.name]) == []


def test_the_audit_finds_losses(cluster: Cluster, baseline: dict[str, Any]) -> None:
    """Must run last: it deletes an object and an event, changes a transcript and adds an object."""
    completed = (
        job for job in reversed(cluster.jobs) if cluster.client.jobs.get(job.job_id)["status"] == "completed"
    )
    first, second, third = islice(completed, 3)
    cluster.jobs[:] = [first, second, third]
    storage = Storage(cluster.settings)
    # one that rows refer to: a killed attempt may have left others behind
    with cluster.sessions() as session:
        named = session.scalars(select(Chunk.key).where(Chunk.job_id == first.job_id).limit(1)).one()
    storage.delete([named])
    storage.put(f"jobs/{uuid.uuid4()}/source", b"?", "text/plain")
    with cluster.sessions.begin() as session:
        session.execute(delete(Event).where(Event.job_id == second.job_id, Event.seq == 2))
        _miscount(session, first.job_id, second.job_id)
    changed = {**baseline, third.recording.name: {}}
    found = " ".join(find_losses(cluster, changed))
    assert f"objects of job {first.job_id} are missing" in found
    assert f"the log of {second.recording.name} ({second.job_id}) has gaps" in found
    assert f"the transcript of {third.recording.name} ({third.job_id}) differs" in found
    assert "3 uploads were accepted and" in found
    assert re.search(rf" s of refine are counted for job {first.job_id}, and (?!0\.000)", found)
    assert f"0.000 s of draft are counted for job {second.job_id}" in found
    assert "usage is counted for jobs that do not exist" in found


def _miscount(session: Session, twice: str, never: str) -> None:
    """Count the refinement of one job twice, the drafts of another never, and a job that nobody sent."""
    for row in session.scalars(
        select(UsageRecord).where(UsageRecord.job_id == twice, UsageRecord.stage == "refine")
    ).all():
        session.add(
            UsageRecord(tenant=row.tenant, job_id=row.job_id, stage=row.stage, audio_seconds=row.audio_seconds)
        )
    # rows are only ever added: whoever owns the table can lift that
    session.execute(text("ALTER TABLE usage DISABLE TRIGGER append_only"))
    session.execute(delete(UsageRecord).where(UsageRecord.job_id == never, UsageRecord.stage == "draft"))
    session.execute(text("ALTER TABLE usage ENABLE TRIGGER append_only"))
    session.add(UsageRecord(tenant="default", job_id=uuid.uuid4(), stage="draft", audio_seconds=1.0))
