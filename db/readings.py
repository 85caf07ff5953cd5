"""Readings of finished transcripts by language models: starting, ending, finding and removing them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import cast, delete, func, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from db.access import quotas
from db.models import READING_STEPS, EventType, Job, Json, Reading, ReadingKind, ReadingStatus, Step, Template
from db.queue.transaction import JobTransaction

MOST_OF_A_JOB = 200
"""Readings that a job may have."""

MOST_WAITING = 20
"""Readings of a tenant that are yet to be made, when it asks for one more."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a language model made of a transcript."""

    content: Json
    model: str
    tokens: Json
    corrected_at: datetime | None
    """That of the job when its transcript was read."""


def start(tx: JobTransaction, kind: ReadingKind, request: Json) -> Reading:
    """Have a completed job's transcript read."""
    number = tx.job.event_seq + 1
    _tell(tx, kind, "queued", number)
    reading = Reading(job_id=tx.job.id, number=number, kind=kind, request=request)
    tx.session.add(reading)
    tx.session.flush()
    tx.enqueue(kind.step, number)
    return reading


def complete(tx: JobTransaction, number: int, made: Made) -> bool:
    """False if the reading was deleted."""
    reading = tx.session.get(Reading, (tx.job.id, number))
    if reading is None:
        return False
    reading.status, reading.ended_at, reading.memo = ReadingStatus.COMPLETED, func.now(), {}
    reading.content, reading.model, reading.tokens = made.content, made.model, made.tokens
    reading.corrected_at = made.corrected_at
    _tell(tx, reading.kind, "completed", number)
    return True


def fail(tx: JobTransaction, number: int, code: str, message: str) -> None:
    """The reading has failed for good; the job and its transcript stay as they are."""
    reading = tx.session.get(Reading, (tx.job.id, number))
    if reading is not None:
        reading.status, reading.ended_at, reading.memo = ReadingStatus.FAILED, func.now(), {}
        reading.error_code, reading.error_message = code, message
        _tell(tx, reading.kind, "failed", number, error={"code": code, "message": message})


def _tell(tx: JobTransaction, kind: ReadingKind, how: str, number: int, **data: Json) -> None:
    tx.job.read_at = func.now()
    tx.emit(EventType(f"{kind}.{how}"), {"number": number, **data})


def keep(tx: JobTransaction, number: int, digest: str, answer: Json) -> None:
    """Note an answer of the model, for a later attempt."""
    added = func.jsonb_build_object(digest, cast(answer, JSONB))
    where = Reading.job_id == tx.job.id, Reading.number == number
    tx.session.execute(update(Reading).where(*where).values(memo=Reading.memo.concat(added)))


def memo(session: Session, job_id: uuid.UUID, number: int) -> Json:
    """The answers that earlier attempts had."""
    where = Reading.job_id == job_id, Reading.number == number
    return session.scalar(select(Reading.memo).where(*where)) or {}


def of_job(session: Session, job_id: uuid.UUID, kind: ReadingKind | None = None) -> Sequence[Reading]:
    """The newest first."""
    query = select(Reading).where(Reading.job_id == job_id).order_by(Reading.number.desc())
    return session.scalars(query if kind is None else query.where(Reading.kind == kind)).all()


def waiting(session: Session, tenant: str) -> int:
    """How many of the tenant's are yet to be made, one transaction at a time."""
    quotas.lock(session, tenant)
    yet = select(func.count()).select_from(Reading).join(Job, Job.id == Reading.job_id)
    return session.scalars(yet.where(Job.tenant == tenant, Reading.status == ReadingStatus.QUEUED)).one()


def translation(session: Session, job_id: uuid.UUID, language: str) -> Reading | None:
    """The newest finished translation into a language."""
    return session.scalar(
        select(Reading)
        .where(
            Reading.job_id == job_id,
            Reading.kind == ReadingKind.TRANSLATION,
            Reading.status == ReadingStatus.COMPLETED,
            Reading.request["language"].astext == language,
        )
        .order_by(Reading.number.desc())
        .limit(1)
    )


def remove(session: Session, job_id: uuid.UUID, number: int | None = None) -> int:
    """Delete one reading of a job, or all, with the steps that make them: a late result finds its lease lost.

    Returns how many.
    """
    steps = [Step.job_id == job_id, Step.kind.in_(READING_STEPS.values())]
    rows = [Reading.job_id == job_id]
    if number is not None:
        steps.append(Step.chunk == number)
        rows.append(Reading.number == number)
    session.execute(delete(Step).where(*steps))
    return len(session.scalars(delete(Reading).where(*rows).returning(Reading.number)).all())


def templates(session: Session, tenant: str) -> Sequence[Template]:
    return session.scalars(select(Template).where(Template.tenant == tenant).order_by(Template.name)).all()
