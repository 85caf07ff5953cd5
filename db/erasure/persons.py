"""Everything of one person: where they were recognised or named, and its removal from a job's rows."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from db import jobs
from db.erasure import certificates
from db.models import (
    ErasedKind,
    Erasure,
    ErasureReason,
    Event,
    EventType,
    Job,
    JobPurpose,
    Json,
    Sample,
    StepKind,
    StoredHypothesis,
    StoredSegment,
    StoredSpeaker,
    StoredVoice,
)
from db.queue.transaction import JobTransaction

ERASED = "[ERASED]"
"""The text of segments that an erased person spoke."""


class FoundBy(StrEnum):
    VOICE = "voice"
    """The job was matched with the enrolled voice."""
    NAME = "name"
    """Somebody gave the speaker that name."""
    SIMILARITY = "similarity"
    """The speaker sounds like the enrolled voice."""


@dataclass(frozen=True, slots=True)
class Appearance:
    """A person in a recording. ``speaker`` is what segments call them: a label, or a name that was typed in."""

    job_id: uuid.UUID
    speaker: str
    by: FoundBy


def start_erasure(
    session: Session,
    tenant: str,
    *,
    name: str,
    voice: StoredVoice | None,
    similar: bool,
    dry_run: bool,
    requested_by: str,
    key_id: uuid.UUID | None,
) -> JobTransaction:
    """Enqueue the erasure of a person, or the search for what it would remove."""
    job = jobs.without_recording(tenant, JobPurpose.ERASURE, key_id=key_id)
    job.options = {"name": name, "voice_id": str(voice.id) if voice else None, "similar": similar}
    transaction = jobs.create(session, job, StepKind.ERASE)
    certificates.request(
        session,
        tenant,
        ErasedKind.PERSON,
        voice.id if voice else "",
        reason=ErasureReason.PERSON,
        requested_by=requested_by,
        erasure_id=job.id,
        dry_run=dry_run,
    )
    return transaction


def known(session: Session, tenant: str, name: str, voice_id: uuid.UUID | None) -> list[Appearance]:
    """Where the person was recognised by the voice, or is called by the name."""
    labelled = session.execute(
        select(StoredSpeaker.job_id, StoredSpeaker.label, StoredSpeaker.voice_id)
        .join(Job, Job.id == StoredSpeaker.job_id)
        .where(
            Job.tenant == tenant,
            Job.deleted_at.is_(None),
            or_(StoredSpeaker.voice_id == voice_id, StoredSpeaker.name == name),
        )
    )
    found = [
        Appearance(job_id, label, FoundBy.VOICE if voice_id is not None and matched == voice_id else FoundBy.NAME)
        for job_id, label, matched in labelled
    ]
    typed = session.scalars(
        select(StoredSegment.job_id)
        .join(Job, Job.id == StoredSegment.job_id)
        .where(Job.tenant == tenant, Job.deleted_at.is_(None), StoredSegment.speaker == name)
        .distinct()
    )
    return found + [Appearance(job_id, name, FoundBy.NAME) for job_id in typed]


def voiceprints(session: Session, tenant: str, model: str) -> Sequence[StoredSpeaker]:
    """All speakers of the tenant whose voiceprints can be compared with those of this model."""
    return session.scalars(
        select(StoredSpeaker)
        .join(Job, Job.id == StoredSpeaker.job_id)
        .where(
            Job.tenant == tenant,
            Job.deleted_at.is_(None),
            Job.models["embed"]["model"].astext == model,
            func.cardinality(StoredSpeaker.vector) > 0,
        )
        .order_by(StoredSpeaker.job_id, StoredSpeaker.label)
    ).all()


def spoken(session: Session, job_id: uuid.UUID, speakers: Collection[str]) -> set[int]:
    """The segments of the job that these speakers spoke."""
    return set(
        session.scalars(
            select(StoredSegment.index).where(StoredSegment.job_id == job_id, StoredSegment.speaker.in_(speakers))
        )
    )


def others_speak(session: Session, job_id: uuid.UUID, segments: Collection[int]) -> bool:
    """Whether the transcript would hold anything without these segments."""
    left = select(StoredSegment.index).where(
        StoredSegment.job_id == job_id, StoredSegment.index.not_in(segments), StoredSegment.text != ERASED
    )
    return session.scalar(left.limit(1)) is not None


def remove(
    tx: JobTransaction, erasure_id: uuid.UUID, speakers: Collection[str], segments: Collection[int]
) -> dict[str, int]:
    """Remove speakers from the rows of a completed job: their words, voiceprints and turns, and whatever may
    quote them: hypotheses, events, samples of training data. The job's recording counts as removed, too.

    Returns how much has gone.
    """
    session, job_id = tx.session, tx.job.id
    session.execute(
        update(StoredSegment)
        .where(StoredSegment.job_id == job_id, StoredSegment.index.in_(segments))
        .values(text=ERASED, words=[], machine=None, speaker=None)
    )
    labels = session.scalars(
        delete(StoredSpeaker)
        .where(StoredSpeaker.job_id == job_id, StoredSpeaker.label.in_(speakers))
        .returning(StoredSpeaker.label)
    ).all()
    session.execute(delete(StoredHypothesis).where(StoredHypothesis.job_id == job_id))
    session.execute(delete(Sample).where(Sample.job_id == job_id, Sample.segment.in_(segments)))
    session.execute(delete(Event).where(Event.job_id == job_id))
    tx.job.events_erased_at = func.now()
    tx.job.audio_erased_at = func.coalesce(Job.audio_erased_at, func.now())
    tx.emit(EventType.JOB_ERASED, {"erasure_id": str(erasure_id)})
    return {"segments": len(segments), "voiceprints": len(labels)}


def note(session: Session, erasure_id: uuid.UUID, found: Sequence[Json]) -> None:
    """Add to what the erasure has found. Each entry has a ``job_id``, and how much of the person was there."""
    session.execute(
        update(Erasure)
        .where(Erasure.id == erasure_id)
        .values(found=func.coalesce(Erasure.found, func.jsonb_build_array()).concat(list(found)))
    )


def totals(session: Session, erasure_id: uuid.UUID) -> Counter[str]:
    """The sums of what was found."""
    found = session.scalar(select(Erasure.found).where(Erasure.id == erasure_id)) or []
    sums = Counter(recordings=len({entry["job_id"] for entry in found}))
    for entry in found:
        sums.update({name: value for name, value in entry.items() if type(value) is int})
    return sums
