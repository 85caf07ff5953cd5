"""A recording of ten hours is in work when one of a minute comes; engines of a known cost stand for the models."""

from __future__ import annotations

import uuid

from sqlalchemy import func, select
from sqlalchemy.orm import aliased

from db.models import Chunk, Job, JobStatus, Step, StepKind, StepState
from db.queue.transaction import job_transaction
from db.storage import Storage, job_prefix
from speech.audio import flac
from speech.engines import SAMPLE_RATE
from tasks import flow
from tests.chaos.worker import COST
from tests.chaos.world import World, until
from tests.jobs import make_job
from tests.media import DATA

CHUNKS = 1200
"""Ten hours in chunks of thirty seconds."""

COSTS = 0.4
"""Seconds that Whisper takes for a chunk."""

HELD = 4
"""Chunks in one claim at most; who comes while one is worked off is in the next."""

OPTIONS = {"hotwords": [f"{COST} {COSTS}"], "diarize": False, "language": "en"}


def ten_hours(world: World) -> uuid.UUID:
    """A job of ten hours that has been cut; every chunk is the same second of sound."""
    job_id = make_job(world.sessions, language="en", options={**OPTIONS, "refine": "always"})
    key = f"{job_prefix(job_id)}chunks/all.flac"
    sound = flac.decode((DATA / "jfk.flac").read_bytes())[:SAMPLE_RATE]
    Storage(world.settings).put(key, flac.encode(sound), "audio/flac")
    with job_transaction(world.sessions, job_id) as made:
        made.skip_open_steps()
        flow.start_job(made, {})
        for index in range(CHUNKS):
            made.session.add(Chunk(job_id=job_id, index=index, start=30.0 * index, end=30.0 * index + 1, key=key))
            made.session.flush()
            flow.add_chunk(made, index)
        made.job.ingested = True
    return job_id


def overtaken(world: World, job_id: str, by: uuid.UUID, kind: StepKind) -> list[int]:
    """For each step of a job, how many of another job's were claimed while it was ready and waited."""
    mine, other = aliased(Step), aliased(Step)
    between = other.claimed_at.between(func.greatest(mine.created_at, mine.run_after), mine.claimed_at)
    counts = (
        select(func.count(other.id))
        .select_from(mine)
        .outerjoin(other, (other.job_id == by) & (other.kind == kind) & between)
        .where(mine.job_id == uuid.UUID(job_id), mine.kind == kind)
        .group_by(mine.id)
    )
    with world.sessions() as session:
        return list(session.scalars(counts))


def test_a_minute_is_not_kept_waiting_by_ten_hours(made: World) -> None:
    until(made.ready)
    long = ten_hours(made)
    until(lambda: made.client.job(str(long))["progress"]["refined"] > 8)
    minute = made.submit(DATA / "ocean_0036.flac", OPTIONS)
    until(lambda: any(event.type == "job.completed" for event in minute.events))
    for kind in (StepKind.DRAFT, StepKind.REFINE):
        waited = overtaken(made, minute.job_id, long, kind)
        assert len(waited) > 1
        assert max(waited) <= 2 * HELD
    assert made.client.job(str(long))["status"] == "processing"
    _cancel_and_delete(made, long)


def _cancel_and_delete(made: World, long: uuid.UUID) -> None:
    """Nothing of the job is worked on any more, and nothing of it is left."""
    assert made.client.cancel(str(long))["status"] == "cancelled"
    with made.sessions() as session:
        still = select(func.count(Step.id)).where(
            Step.job_id == long, Step.state.in_([StepState.READY, StepState.LEASED])
        )
        assert session.scalar(still) == 0
        assert session.get_one(Job, long).status == JobStatus.CANCELLED
    made.client.delete(str(long))
    storage = Storage(made.settings)
    until(lambda: not list(storage.list(job_prefix(long))))

    def gone() -> bool:
        with made.sessions() as session:
            return session.get(Job, long) is None

    until(gone)


def test_a_retried_job_completes(made: World) -> None:
    job = made.submit(DATA / "demo.flac", {})
    until(lambda: any(event.type == "segment.draft" for event in job.events))
    made.client.cancel(job.job_id)
    made.client.retry(job.job_id)
    until(lambda: made.client.job(job.job_id)["status"] == "completed")
