"""What the rows of usage must add up to, reckoned from chunks and steps by another way than the product's."""

from __future__ import annotations

import uuid
from collections import Counter

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Chunk, Job, Step, StepKind, StepState, UsageRecord
from speech.text.timeline import Timeline

PER_CHUNK = (StepKind.DRAFT, StepKind.REFINE, StepKind.DIARIZE)
TOLERANCE_SECONDS = 0.001


def processed(session: Session, job_id: uuid.UUID) -> Counter[str]:
    """Seconds of audio by stage, of the steps of the job that are done."""
    job = session.get_one(Job, job_id)
    chunks = {
        chunk.index: Timeline.of(chunk.spans).seconds
        for chunk in session.scalars(select(Chunk).where(Chunk.job_id == job_id))
    }
    seconds: Counter[str] = Counter()
    for step in session.scalars(select(Step).where(Step.job_id == job_id, Step.state == StepState.DONE)):
        if step.kind in PER_CHUNK:
            length = sum(chunks.values()) if step.chunk is None else chunks[step.chunk]
            seconds[step.kind] += length  # type: ignore[assignment]
        elif step.kind == StepKind.INGEST:
            seconds["upload"] += job.duration or 0.0  # type: ignore[assignment]
        elif step.kind == StepKind.EMBED:
            # every chunk that is diarized at all is by then
            seconds[step.kind] += seconds_diarized(session, job_id, chunks)  # type: ignore[assignment]
    return seconds


def seconds_diarized(session: Session, job_id: uuid.UUID, chunks: dict[int, float]) -> float:
    done = session.scalars(
        select(Step.chunk).where(
            Step.job_id == job_id, Step.kind == StepKind.DIARIZE, Step.state == StepState.DONE
        )
    )
    return sum(sum(chunks.values()) if chunk is None else chunks[chunk] for chunk in done)


def counted(session: Session, job_id: uuid.UUID) -> Counter[str]:
    """Seconds of audio by stage, in the job's rows of usage."""
    seconds: Counter[str] = Counter()
    for row in session.scalars(select(UsageRecord).where(UsageRecord.job_id == job_id)):
        seconds[row.stage] += row.audio_seconds  # type: ignore[assignment]
    return seconds


def usage_losses(session: Session, job_id: uuid.UUID) -> list[str]:
    """A sentence for everything in which the rows of an ended job differ from its work."""
    job = session.get_one(Job, job_id)
    rows = session.scalars(select(UsageRecord).where(UsageRecord.job_id == job_id)).all()
    expected, found = processed(session, job_id), counted(session, job_id)
    losses = [
        f"{found[stage]:.3f} s of {stage} are counted for job {job_id}, and {expected[stage]:.3f} s were done"
        for stage in sorted(expected | found)
        if abs(expected[stage] - found[stage]) > TOLERANCE_SECONDS
    ]
    if "upload" in expected and (size := sum(row.bytes for row in rows)) != job.bytes:
        losses.append(f"{size} bytes are counted for job {job_id}, which has {job.bytes}")
    if any((row.tenant, row.key_id) != (job.tenant, job.key_id) for row in rows):
        losses.append(f"the usage of job {job_id} is not that of its tenant and key")
    return losses
