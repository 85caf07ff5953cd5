"""Enrolled voices of a tenant."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import select, true, update
from sqlalchemy.orm import Session

from db.erasure.deletion import delete_job
from db.models import ErasureReason, Job, StoredSegment, StoredSpeaker, StoredVoice, VoiceStatus
from db.queue.transaction import JobTransaction

MIN_SPEECH_SECONDS = 5.0
"""Speech that a voice takes at least."""


def get(session: Session, tenant: str, voice_id: uuid.UUID) -> StoredVoice | None:
    return session.scalar(select(StoredVoice).where(StoredVoice.id == voice_id, StoredVoice.tenant == tenant))


def hold(session: Session, tenant: str, voice_id: uuid.UUID) -> StoredVoice | None:
    """The voice, which nobody forgets or renames until the transaction ends."""
    query = select(StoredVoice).where(StoredVoice.id == voice_id, StoredVoice.tenant == tenant)
    return session.scalar(query.with_for_update(read=True, key_share=True))


def by_name(session: Session, tenant: str, name: str) -> StoredVoice | None:
    return session.scalar(select(StoredVoice).where(StoredVoice.tenant == tenant, StoredVoice.name == name))


def page(session: Session, tenant: str) -> Sequence[StoredVoice]:
    """All voices of a tenant, by name."""
    return session.scalars(
        select(StoredVoice).where(StoredVoice.tenant == tenant).order_by(StoredVoice.name)
    ).all()


def enrolled(session: Session, tenant: str, model: str) -> Sequence[StoredVoice]:
    """Voices whose voiceprints can be compared with those of this model."""
    return session.scalars(
        select(StoredVoice)
        .where(StoredVoice.tenant == tenant, StoredVoice.model == model, StoredVoice.status == VoiceStatus.READY)
        .order_by(StoredVoice.id)
        # until the transaction ends, none of them is forgotten
        .with_for_update(read=True, key_share=True)
    ).all()


class Heard(NamedTuple):
    """Where a voice was heard: its longest stretch in a recording."""

    job_id: uuid.UUID
    filename: str
    start: float
    end: float
    text: str


def heard(session: Session, tenant: str, voice_id: uuid.UUID, limit: int) -> Sequence[Heard]:
    """Of each recording that the voice was found in and that is still there, newest first."""
    longest = (
        select(StoredSegment.start, StoredSegment.end, StoredSegment.text)
        .where(StoredSegment.job_id == StoredSpeaker.job_id, StoredSegment.speaker == StoredSpeaker.label)
        .order_by((StoredSegment.end - StoredSegment.start).desc(), StoredSegment.index)
        .limit(1)
        .lateral()
    )
    found = session.execute(
        select(Job.id, Job.filename, longest.c.start, longest.c.end, longest.c.text)
        .select_from(StoredSpeaker)
        .join(Job, Job.id == StoredSpeaker.job_id)
        .join(longest, true())
        .where(
            StoredSpeaker.voice_id == voice_id,
            Job.tenant == tenant,
            Job.deleted_at.is_(None),
            Job.audio_erased_at.is_(None),
        )
        .order_by(Job.created_at.desc())
        .limit(limit)
    )
    return [Heard(*row) for row in found]


def enrolment_job(session: Session, voice_id: uuid.UUID) -> uuid.UUID | None:
    """The id of the job that is enrolling the voice."""
    return session.scalar(select(Job.id).where(Job.voice_id == voice_id, Job.deleted_at.is_(None)))


def voiceprint_model(job: Job) -> str:
    """The model of the job's voiceprints, or none. Only those of one model can be compared."""
    return str(job.models.get("embed", {}).get("model", ""))


def enrol_speaker(
    tx: JobTransaction, speaker: StoredSpeaker, name: str, model: str, seconds: float
) -> StoredVoice:
    """A voice of a speaker's voiceprint; the speaker becomes that person."""
    voice = StoredVoice(
        id=uuid.uuid4(),
        tenant=tx.job.tenant,
        name=name,
        status=VoiceStatus.READY,
        vector=speaker.vector,
        seconds=seconds,
        model=model,
    )
    tx.session.add(voice)
    tx.session.flush()
    tx.session.refresh(voice)
    speaker.name, speaker.voice_id, speaker.score = name, voice.id, None
    return voice


def rename(session: Session, voice: StoredVoice, name: str) -> None:
    voice.name = name
    session.execute(update(StoredSpeaker).where(StoredSpeaker.voice_id == voice.id).values(name=name))


def delete(session: Session, voice: StoredVoice) -> None:
    """Delete the voice with its vector. Speakers that it named keep only their labels.

    A refusal to be trained on outlasts the voice: its speakers keep the id, which is never used again.
    """
    session.refresh(voice, with_for_update=True)
    cleared = {"name": None, "score": None} | ({} if voice.training is False else {"voice_id": None})
    session.execute(update(StoredSpeaker).where(StoredSpeaker.voice_id == voice.id).values(cleared))
    session.delete(voice)


def finish_enrolment(tx: JobTransaction, **values: object) -> None:
    """Write the result of an enrolment, and delete its job with the recording."""
    tx.session.execute(update(StoredVoice).where(StoredVoice.id == tx.job.voice_id).values(**values))
    delete_job(tx, ErasureReason.ENROLLED, "enrolment")
