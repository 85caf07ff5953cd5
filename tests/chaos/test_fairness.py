"""A one-minute recording comes while a ten-hour one is in work; the engines are simulated, with known costs."""

from __future__ import annotations

import uuid

from sqlalchemy import func, select
from sqlalchemy.orm import aliased

from db.models import Chunk, Job, JobStatus, Step, StepKind, StepState
from db.objects.storage import Storage, job_prefix
from db.queue.transaction import job_transaction
from speech.audio import flac
from speech.engines import SAMPLE_RATE
from tasks import flow
from tests.chaos.cluster import Cluster, until
from tests.chaos.worker import COST
from tests.jobs import make_job
from tests.media import DATA

CHUNKS = 1200
"""Ten hours in chunks of 30 s."""

ENGINE_SECONDS = 0.4
"""Time that the simulated Whisper takes for a chunk."""

MAX_CLAIM_CHUNKS = 4
"""A new job's chunks are in the next claim."""

OPTIONS = {"hotwords": [f"{COST} {ENGINE_SECONDS}"], "diarize": False, "language": "en"}


def add_ten_hour_job(cluster: Cluster) -> uuid.UUID:
    """A ten-hour job that has been cut. Every chunk is the same second of sound."""
    job_id = make_job(cluster.sessions, language="en", options={**OPTIONS, "refine": "always"})
    key = f"{job_prefix(job_id)}chunks/all.flac"
    sound = flac.decode((DATA / "jfk.flac").read_bytes())[:SAMPLE_RATE]
    Storage(cluster.settings).put(key, flac.encode(sound), "audio/flac")
    with job_transaction(cluster.sessions, job_id) as tx:
        tx.skip_open_steps()
        flow.start_job(tx, {})
        for index in range(CHUNKS):
            tx.session.add(Chunk(job_id=job_id, index=index, start=30.0 * index, end=30.0 * index + 1, key=key))
            tx.session.flush()
            flow.add_chunk(tx, index)
        tx.job.ingested = True
    return job_id


def count_overtaking_claims(cluster: Cluster, job_id: str, by: uuid.UUID, kind: StepKind) -> list[int]:
    """For each step of a job: how many steps of another job were claimed while it was ready."""
    mine, other = aliased(Step), aliased(Step)
    between = other.claimed_at.between(func.greatest(mine.created_at, mine.run_after), mine.claimed_at)
    counts = (
        select(func.count(other.id))
        .select_from(mine)
        .outerjoin(other, (other.job_id == by) & (other.kind == kind) & between)
        .where(mine.job_id == uuid.UUID(job_id), mine.kind == kind)
        .group_by(mine.id)
    )
    with cluster.sessions() as session:
        return list(session.scalars(counts))


def test_a_one_minute_job_does_not_wait_for_a_ten_hour_job(cluster: Cluster) -> None:
    until(cluster.ready)
    long = add_ten_hour_job(cluster)
    until(lambda: cluster.client.jobs.get(str(long))["progress"]["refined"] > 8)
    minute = cluster.submit(DATA / "ocean_0036.flac", OPTIONS)
    until(lambda: any(event.type == "job.completed" for event in minute.events))
    for kind in (StepKind.DRAFT, StepKind.REFINE):
        waited = count_overtaking_claims(cluster, minute.job_id, long, kind)
        assert len(waited) > 1
        assert max(waited) <= 2 * MAX_CLAIM_CHUNKS
    assert cluster.client.jobs.get(str(long))["status"] == "processing"
    _cancel_and_delete(cluster, long)


def _cancel_and_delete(cluster: Cluster, long: uuid.UUID) -> None:
    """The cancelled job has no open steps; the deleted one has neither objects nor rows."""
    assert cluster.client.jobs.cancel(str(long))["status"] == "cancelled"
    with cluster.sessions() as session:
        still = select(func.count(Step.id)).where(
            Step.job_id == long, Step.state.in_([StepState.READY, StepState.LEASED])
        )
        assert session.scalar(still) == 0
        assert session.get_one(Job, long).status == JobStatus.CANCELLED
    cluster.client.jobs.delete(str(long))
    storage = Storage(cluster.settings)
    until(lambda: not list(storage.list(job_prefix(long))))

    def gone() -> bool:
        with cluster.sessions() as session:
            return session.get(Job, long) is None

    until(gone)


def test_a_retried_job_completes(cluster: Cluster) -> None:
    job = cluster.submit(DATA / "demo.flac", {})
    until(lambda: any(event.type == "segment.draft" for event in job.events))
    cluster.client.jobs.cancel(job.job_id)
    cluster.client.jobs.retry(job.job_id)
    until(lambda: cluster.client.jobs.get(job.job_id)["status"] == "completed")
