"""Enrolled voices: who is known to a tenant by the sound of the voice."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from db.models import Job, StepKind, StoredSpeaker, StoredVoice, VoiceStatus
from db.queue.transaction import JobTransaction


def get(session: Session, tenant: str, voice_id: uuid.UUID) -> StoredVoice | None:
    return session.scalar(select(StoredVoice).where(StoredVoice.id == voice_id, StoredVoice.tenant == tenant))


def page(session: Session, tenant: str) -> Sequence[StoredVoice]:
    """All voices of a tenant, by name."""
    return session.scalars(
        select(StoredVoice).where(StoredVoice.tenant == tenant).order_by(StoredVoice.name)
    ).all()


def enrolled(session: Session, tenant: str, model: str) -> Sequence[StoredVoice]:
    """Those that can be compared with voiceprints of this model."""
    return session.scalars(
        select(StoredVoice)
        .where(StoredVoice.tenant == tenant, StoredVoice.model == model, StoredVoice.status == VoiceStatus.READY)
        .order_by(StoredVoice.id)
    ).all()


def job_of(session: Session, voice_id: uuid.UUID) -> uuid.UUID | None:
    """The job that enrols the voice, while it does."""
    return session.scalar(select(Job.id).where(Job.voice_id == voice_id, Job.deleted_at.is_(None)))


def rename(session: Session, voice: StoredVoice, name: str) -> None:
    voice.name = name
    session.execute(update(StoredSpeaker).where(StoredSpeaker.voice_id == voice.id).values(name=name))


def forget(session: Session, voice: StoredVoice) -> None:
    """Delete the voice with its vector; speakers that it named have their labels alone again.

    Who refused to be trained on still does: their speakers keep the id, which nobody else will have.
    """
    session.refresh(voice, with_for_update=True)
    left = {"name": None, "score": None} | ({} if voice.training is False else {"voice_id": None})
    session.execute(update(StoredSpeaker).where(StoredSpeaker.voice_id == voice.id).values(left))
    session.delete(voice)


def settle(tx: JobTransaction, **values: object) -> None:
    """Write what became of an enrolment. Its job, with the recording, is not kept."""
    tx.session.execute(update(StoredVoice).where(StoredVoice.id == tx.job.voice_id).values(**values))
    tx.job.deleted_at = func.now()
    tx.enqueue(StepKind.PURGE)
