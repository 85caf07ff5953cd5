"""Enrolled voices: who is known to a tenant by the sound of the voice."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import cast, func, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from db.models import Job, StepKind, StoredSpeaker, StoredVoice, VoiceStatus
from db.transaction import JobTransaction


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

    Who refused to be trained on is heard no more by name, so the recordings refuse instead.
    """
    if voice.training is False:
        heard = select(StoredSpeaker.job_id).where(StoredSpeaker.voice_id == voice.id)
        refused = cast({"training": False}, JSONB)
        session.execute(update(Job).where(Job.id.in_(heard)).values(options=Job.options.op("||")(refused)))
    session.execute(
        update(StoredSpeaker)
        .where(StoredSpeaker.voice_id == voice.id)
        .values(name=None, voice_id=None, score=None)
    )
    session.delete(voice)


def settle(tx: JobTransaction, **values: object) -> None:
    """Write what became of an enrolment. Its job, with the recording, is not kept."""
    tx.session.execute(update(StoredVoice).where(StoredVoice.id == tx.job.voice_id).values(**values))
    tx.job.deleted_at = func.now()
    tx.enqueue(StepKind.PURGE)
