"""Speakers of a recording, and their turns."""

from __future__ import annotations

import math
import uuid

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from db.models import Json, KnownSpeaker, Passage, StoredSegment, StoredSpeaker, StoredTurn, StoredVoice


def turns(
    session: Session, job_id: uuid.UUID, start: float = 0.0, end: float = math.inf, margin: float = 60.0
) -> list[Json]:
    """Turns that are at most ``margin`` seconds from a span of the recording, in order."""
    rows = session.scalars(
        select(StoredTurn)
        .where(StoredTurn.job_id == job_id, StoredTurn.start < end + margin, StoredTurn.end > start - margin)
        .order_by(StoredTurn.index)
    )
    return [{"start": row.start, "end": row.end, "speaker": row.speaker} for row in rows]


def of_job(session: Session, job_id: uuid.UUID) -> list[Json]:
    """The speakers in the order of their labels, in their public shape."""
    rows = session.scalars(
        select(StoredSpeaker).where(StoredSpeaker.job_id == job_id).order_by(StoredSpeaker.label)
    )
    return [row.to_json() for row in rows]


def find(session: Session, job_id: uuid.UUID, label: str) -> StoredSpeaker | None:
    """The speaker of a label; one that people only typed in so far gets a row."""
    stored = session.get(StoredSpeaker, (job_id, label))
    if stored is None:
        typed = select(StoredSegment.index).where(StoredSegment.job_id == job_id, StoredSegment.speaker == label)
        if session.scalar(typed.limit(1)) is not None:
            stored = StoredSpeaker(job_id=job_id, label=label, vector=[])
            session.add(stored)
            session.flush()
    return stored


def with_voice(session: Session, job_id: uuid.UUID, voice_id: uuid.UUID) -> StoredSpeaker | None:
    of_voice = StoredSpeaker.job_id == job_id, StoredSpeaker.voice_id == voice_id
    return session.scalar(select(StoredSpeaker).where(*of_voice))


def rename(session: Session, speaker: StoredSpeaker, name: str | None) -> None:
    """Another name than that of a voice is another person's; what a forgotten voice has refused stays refused."""
    speaker.name, speaker.score = name, None
    if speaker.voice_id is not None and session.get(StoredVoice, speaker.voice_id) is not None:
        speaker.voice_id = None


def merge(session: Session, speaker: StoredSpeaker, into: StoredSpeaker) -> None:
    """Give ``into`` all that a speaker said, and who it is where that is not known."""
    for table in (StoredSegment, Passage, StoredTurn):
        theirs = table.job_id == speaker.job_id, table.speaker == speaker.label
        session.execute(update(table).where(*theirs).values(speaker=into.label))
    if into.name is None and into.voice_id is None:
        into.name, into.voice_id, into.score = speaker.name, speaker.voice_id, speaker.score
    into.vector = into.vector or speaker.vector
    session.delete(speaker)


def forget_samples(session: Session, job_id: uuid.UUID) -> None:
    """Delete the samples of people who may speak in the recording: nobody needs them any more."""
    session.execute(delete(KnownSpeaker).where(KnownSpeaker.job_id == job_id))


def seconds(session: Session, speaker: StoredSpeaker) -> float:
    """How long a speaker talks."""
    theirs = StoredTurn.job_id == speaker.job_id, StoredTurn.speaker == speaker.label
    length = func.sum(StoredTurn.end - StoredTurn.start)
    return session.scalar(select(length).where(*theirs)) or 0.0
