"""A recording of ten hours is in work when one of a minute comes; engines of a known cost stand for the models."""

from __future__ import annotations

import time
import uuid

from sqlalchemy import func, select

from db.models import Chunk, Job, JobStatus, Step, StepState
from db.storage import Storage, job_prefix
from db.transaction import job_transaction
from speech import flac
from speech.engines.base import SAMPLE_RATE
from tasks import flow
from tests.chaos.worker import COST
from tests.chaos.world import World, until
from tests.jobs import make_job
from tests.media import DATA

CHUNKS = 1200
"""Ten hours in chunks of thirty seconds."""

COSTS = 0.4
"""Seconds that either model takes for a chunk."""

OPTIONS = {"hotwords": [f"{COST} {COSTS}"], "diarize": False, "language": "en"}


def ten_hours(world: World) -> uuid.UUID:
    """A job of ten hours that has been cut; every chunk is the same second of sound."""
    job_id = make_job(world.sessions, language="en", options={**OPTIONS, "refine": "always"})
    key = f"{job_prefix(job_id)}chunks/all.flac"
    sound = flac.decode((DATA / "jfk.flac").read_bytes())[:SAMPLE_RATE]
    Storage(world.settings).put(key, flac.encode(sound), "audio/flac")
    with job_transaction(world.sessions, job_id) as made:
        made.skip_open_steps()
        flow.started(made, {})
        for index in range(CHUNKS):
            made.session.add(Chunk(job_id=job_id, index=index, start=30.0 * index, end=30.0 * index + 1, key=key))
            made.session.flush()
            flow.chunk_cut(made, index)
        made.job.ingested = True
    return job_id


def timed(world: World) -> float:
    """Seconds from the end of the upload of a minute to its last final."""
    job = world.submit(DATA / "ocean_0036.flac", OPTIONS)
    begun = time.monotonic()
    until(lambda: any(event.type == "job.completed" for event in job.events), 60)
    return time.monotonic() - begun


def test_a_minute_is_not_kept_waiting_by_ten_hours(made: World) -> None:
    until(made.ready, 60)
    timed(made)  # engines are loaded, connections are open
    solo = timed(made)
    long = ten_hours(made)

    def in_work() -> bool:
        refined: int = made.client.job(str(long))["progress"]["refined"]
        return refined > 8

    until(in_work, 60)
    # one step holds two chunks; the best of a few, since the machine has other things to do as well
    beside = min(timed(made) for _ in range(2))
    assert beside <= 2 * solo + 2 * COSTS
    assert made.client.job(str(long))["status"] == "processing"
    _cancel_and_delete(made, long)


def _cancel_and_delete(made: World, long: uuid.UUID) -> None:
    """Both within five seconds as the user sees them, and nothing of the job is worked on any more."""
    begun = time.monotonic()
    assert made.client.cancel(str(long))["status"] == "cancelled"
    with made.sessions() as session:
        still = select(func.count(Step.id)).where(
            Step.job_id == long, Step.state.in_([StepState.READY, StepState.LEASED])
        )
        assert session.scalar(still) == 0
        assert session.get_one(Job, long).status == JobStatus.CANCELLED
    made.client.delete(str(long))
    storage = Storage(made.settings)
    until(lambda: not list(storage.list(job_prefix(long))), 5)
    assert time.monotonic() - begun < 5

    def gone() -> bool:
        with made.sessions() as session:
            return session.get(Job, long) is None

    until(gone, 10)


def test_a_retried_job_completes(made: World) -> None:
    job = made.submit(DATA / "demo.flac", {})
    until(lambda: any(event.type == "segment.draft" for event in job.events), 60)
    made.client.cancel(job.job_id)
    made.client.retry(job.job_id)
    found = until(lambda: made.client.job(job.job_id)["status"] == "completed", 60)
    assert found
