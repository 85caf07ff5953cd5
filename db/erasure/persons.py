"""Everything of one person: where they were recognised or named, and its removal from a job's rows."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import delete, false, func, or_, select, tuple_, update
from sqlalchemy.orm import Session

from db import jobs, readings
from db.erasure import certificates, withdrawal
from db.models import (
    ErasedKind,
    Erasure,
    ErasureReason,
    Event,
    EventType,
    Job,
    JobPurpose,
    JobStatus,
    Json,
    KnownSpeaker,
    Sample,
    StepKind,
    StoredHypothesis,
    StoredSegment,
    StoredSpeaker,
    StoredVoice,
    WebhookDelivery,
)
from db.queue.transaction import JobTransaction
from db.search.refresh import refresh

ERASED = "[ERASED]"
"""The text of segments that an erased person spoke."""

NAMED_BY_PEOPLE = StoredSegment.machine.is_not(None)
PAGE_SIZE = 5000
"""Voiceprints read at once."""


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
    """Where the person was recognised by the voice, is called by the name, or was to be listened for."""
    matched = StoredSpeaker.voice_id == voice_id if voice_id is not None else false()
    labelled = session.execute(
        select(StoredSpeaker.job_id, StoredSpeaker.label, matched)
        .join(Job, Job.id == StoredSpeaker.job_id)
        .where(Job.tenant == tenant, Job.deleted_at.is_(None), or_(matched, StoredSpeaker.name == name))
    )
    found = [
        Appearance(job_id, label, FoundBy.VOICE if by_voice else FoundBy.NAME)
        for job_id, label, by_voice in labelled
    ]
    typed = session.scalars(
        select(StoredSegment.job_id)
        .join(Job, Job.id == StoredSegment.job_id)
        .where(Job.tenant == tenant, Job.deleted_at.is_(None), NAMED_BY_PEOPLE, StoredSegment.speaker == name)
        .distinct()
    )
    # of jobs that ended before anybody was recognised
    sampled = session.scalars(
        select(KnownSpeaker.job_id)
        .join(Job, Job.id == KnownSpeaker.job_id)
        .where(Job.tenant == tenant, Job.deleted_at.is_(None), KnownSpeaker.name == name)
    )
    return found + [Appearance(job_id, name, FoundBy.NAME) for job_id in (*typed, *sampled)]


def unnamed_voiceprints(
    session: Session, tenant: str, model: str, after: tuple[uuid.UUID, str] | None
) -> list[tuple[uuid.UUID, str, list[float]]]:
    """A page of speakers whom nobody matched or named: job, label and voiceprint of this model.

    ``after`` is the job and label of the last one of the page before.
    """
    named = select(StoredSegment.index).where(
        StoredSegment.job_id == StoredSpeaker.job_id,
        NAMED_BY_PEOPLE,
        StoredSegment.machine["speaker"].astext == StoredSpeaker.label,
        StoredSegment.speaker != StoredSpeaker.label,
    )
    query = (
        select(StoredSpeaker.job_id, StoredSpeaker.label, StoredSpeaker.vector)
        .join(Job, Job.id == StoredSpeaker.job_id)
        .where(
            Job.tenant == tenant,
            Job.deleted_at.is_(None),
            Job.models["embed"]["model"].astext == model,
            func.cardinality(StoredSpeaker.vector) > 0,
            StoredSpeaker.voice_id.is_(None),
            StoredSpeaker.name.is_(None),
            ~named.exists(),
        )
    )
    if after is not None:
        query = query.where(tuple_(StoredSpeaker.job_id, StoredSpeaker.label) > after)
    rows = session.execute(query.order_by(StoredSpeaker.job_id, StoredSpeaker.label).limit(PAGE_SIZE))
    return [(job_id, label, vector) for job_id, label, vector in rows]


def may_still_be_heard(session: Session, tenant: str, before: datetime) -> bool:
    """Whether there are earlier recordings of which it is not known yet who speaks in them."""
    waiting = select(Job.id).where(
        Job.tenant == tenant,
        Job.created_at < before,
        Job.status.in_((JobStatus.QUEUED, JobStatus.PROCESSING)),
        Job.deleted_at.is_(None),
        jobs.IS_TRANSCRIPTION,
        Job.diarize,
        ~Job.speakers_known,
    )
    return session.scalar(waiting.limit(1)) is not None


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
    quote them: hypotheses, readings, events, samples of training data, the recording's file name and the job's
    hotwords.

    Returns how much has gone.
    """
    session, job_id = tx.session, tx.job.id
    theirs = StoredSegment.job_id == job_id, StoredSegment.index.in_(segments)
    # of who was only named in segments, the machine has a voiceprint under its own label
    heard_as = set(session.scalars(select(StoredSegment.machine["speaker"].astext).where(*theirs)).all())
    # whoever has seen what was there before must not write it again
    gone: Json = {"text": ERASED, "words": [], "machine": None, "speaker": None, "version": tx.job.event_seq + 1}
    session.execute(update(StoredSegment).where(*theirs).values(gone))
    refresh(session, tx.job, range(tx.job.chunks))
    _forget_what_models_wrote(session, job_id)
    of_job = StoredSpeaker.job_id == job_id
    still_speaks = select(StoredSegment.index).where(
        StoredSegment.job_id == job_id, StoredSegment.speaker == StoredSpeaker.label
    )
    labels = session.scalars(
        delete(StoredSpeaker)
        .where(
            of_job,
            or_(StoredSpeaker.label.in_(speakers), StoredSpeaker.label.in_(heard_as) & ~still_speaks.exists()),
        )
        .returning(StoredSpeaker.label)
    ).all()
    mixed = session.scalars(
        update(StoredSpeaker)
        .where(of_job, StoredSpeaker.label.in_(heard_as))
        .values(vector=[])
        .returning(StoredSpeaker.label)
    ).all()
    session.execute(delete(StoredHypothesis).where(StoredHypothesis.job_id == job_id))
    readings.remove(session, job_id)
    session.execute(delete(Sample).where(withdrawal.taken_from(job_id, segments)))
    session.execute(delete(Event).where(Event.job_id == job_id))
    session.execute(delete(WebhookDelivery).where(WebhookDelivery.job_id == job_id))
    tx.job.events_erased_at = func.now()
    tx.job.filename = ERASED
    # they may name who was erased
    tx.job.title, tx.job.tags = None, []
    tx.job.source_url = None
    tx.job.options = {name: value for name, value in tx.job.options.items() if name not in ("hotwords", "webhook")}
    tx.emit(EventType.JOB_ERASED, {"erasure_id": str(erasure_id)})
    return {"segments": len(segments), "voiceprints": len(labels) + len(mixed)}


def _forget_what_models_wrote(session: Session, job_id: uuid.UUID) -> None:
    """What stands in the segments of others is from now on what they are reverted to: what the models wrote there
    may quote who was erased, where segments were joined or moved."""
    names = StoredSegment.text, StoredSegment.words, StoredSegment.source, StoredSegment.confidence
    stands = func.jsonb_build_object(*(part for column in names for part in (column.key, column)))
    session.execute(
        update(StoredSegment)
        .where(StoredSegment.job_id == job_id, NAMED_BY_PEOPLE)
        .values(machine=StoredSegment.machine.concat(stands))
    )


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
