"""Jobs inserted directly into the database."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import select

from db import jobs
from db.models import Chunk, Job, Priority, Step, StepKind
from db.queue.transaction import job_transaction
from db.session import Sessions


def make_job(sessions: Sessions, **values: Any) -> uuid.UUID:
    """A queued job with its ingest step ready."""
    columns = {
        "id": uuid.uuid4(),
        "tenant": "default",
        "filename": "talk.flac",
        "bytes": 1,
        "sha256": "0" * 64,
        "priority": Priority.NORMAL,
        "options": {},
    } | values
    job = Job(source_key=f"jobs/{columns['id']}/source", **columns)
    with sessions.begin() as session:
        jobs.create(session, job)
    return job.id


def add_chunks(sessions: Sessions, job_id: uuid.UUID, count: int, kind: StepKind = StepKind.DRAFT) -> None:
    """Chunks of 10 s each, with a ready step of the kind for each."""
    with job_transaction(sessions, job_id) as tx:
        tx.job.ingested = True
        for index in range(tx.job.chunks, tx.job.chunks + count):
            tx.session.add(
                Chunk(job_id=job_id, index=index, start=index * 10.0, end=index * 10.0 + 10, key=f"c{index}")
            )
            tx.enqueue(kind, index)
        tx.job.chunks += count


def steps_of(sessions: Sessions, job_id: uuid.UUID, kind: StepKind | None = None) -> list[Step]:
    with sessions() as session:
        query = select(Step).where(Step.job_id == job_id).order_by(Step.id)
        if kind is not None:
            query = query.where(Step.kind == kind)
        return list(session.scalars(query))
