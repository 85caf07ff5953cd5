"""Exports of training data and fine-tunings: made as jobs, so that they are queued, healed and watched as such."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Select, Text, cast, func, select, tuple_, update
from sqlalchemy.orm import Session

from db import jobs
from db.models import (
    Export,
    FineTune,
    Job,
    JobPurpose,
    JobStatus,
    Json,
    Priority,
    Sample,
    Split,
    StepKind,
    StoredSpeaker,
)
from db.session import Sessions
from db.settings import Settings
from db.transaction import JobTransaction

EVERYBODY = "*"
SETTLED = func.coalesce(Job.corrected_at, Job.completed_at)
"""When a transcript last changed."""

PAGE = 5000
"""Samples read at once."""


def allowed(settings: Settings, tenant: str) -> bool:
    """Whether the tenant has opted in to being trained on."""
    return tenant in settings.training_tenants or EVERYBODY in settings.training_tenants


def prefix(export: Export) -> str:
    """Where an export lies in the bucket."""
    return f"exports/{export.date.isoformat()}/{export.job_id}/"


def day(of: date) -> tuple[datetime, datetime]:
    """Its beginning and end in UTC."""
    since = datetime(of.year, of.month, of.day, tzinfo=UTC)
    return since, since + timedelta(days=1)


def _job(tenant: str, purpose: JobPurpose, key: str | None) -> Job:
    return Job(
        id=uuid.uuid4(),
        tenant=tenant,
        purpose=purpose,
        priority=Priority.LOW,
        filename="",
        bytes=0,
        sha256="",
        source_key="",
        options={},
        idempotency_key=key,
    )


def start_export(
    session: Session,
    tenant: str,
    since: datetime,
    until: datetime,
    *,
    filters: Json,
    cleaning: Json,
    dry_run: bool = False,
    key: str | None = None,
) -> JobTransaction:
    """Enqueue an export of what was settled in the span. Raises IntegrityError where the key was used."""
    job = _job(tenant, JobPurpose.EXPORT, key)
    transaction = jobs.create(session, job, StepKind.EXPORT)
    session.add(
        Export(
            job_id=job.id,
            tenant=tenant,
            date=(until - timedelta(microseconds=1)).date(),
            since=since,
            until=until,
            dry_run=dry_run,
            filters=filters,
            cleaning=cleaning,
        )
    )
    session.flush()
    return transaction


Night = TypeVar("Night", Export, FineTune)
"""A piece of the night's work: a job without a recording."""


def find(kind: type[Night], session: Session, tenant: str, job_id: uuid.UUID) -> tuple[Night, Job] | None:
    row = session.execute(_of(kind, tenant).where(kind.job_id == job_id)).one_or_none()
    return (row[0], row[1]) if row else None


def newest(kind: type[Night], session: Session, tenant: str, limit: int) -> list[tuple[Night, Job]]:
    rows = session.execute(_of(kind, tenant).order_by(Job.created_at.desc()).limit(limit))
    return [(row[0], row[1]) for row in rows]


def _of(kind: type[Night], tenant: str) -> Any:
    return (
        select(kind, Job).join(Job, Job.id == kind.job_id).where(kind.tenant == tenant, Job.deleted_at.is_(None))
    )


def _settled(tenant: str, since: datetime, until: datetime) -> Select[uuid.UUID]:
    """Transcripts that last changed within the span."""
    return select(Job.id).where(
        Job.tenant == tenant,
        Job.status == JobStatus.COMPLETED,
        Job.deleted_at.is_(None),
        jobs.IS_TRANSCRIPTION,
        since <= SETTLED,
        until > SETTLED,
    )


def settled(session: Session, tenant: str, since: datetime, until: datetime) -> bool:
    """Whether there is anything to export."""
    return session.scalar(_settled(tenant, since, until).limit(1)) is not None


def jobs_to_export(session: Session, export: Export) -> Sequence[uuid.UUID]:
    """Jobs of the window that the export has not decided on yet, in the order in which they settled."""
    decided = select(Sample.job_id).where(Sample.export_id == export.job_id, Sample.job_id == Job.id)
    query = _settled(export.tenant, export.since, export.until).where(~decided.exists())
    return session.scalars(query.order_by(SETTLED, Job.id)).all()


def exported_before(session: Session, export: Export, fingerprints: Sequence[str]) -> set[str]:
    """Those of the fingerprints that an earlier night, or this export so far, has accepted."""
    earlier = (
        select(Export.job_id)
        .join(Job, Job.id == Export.job_id)
        .where(
            Export.tenant == export.tenant,
            Export.date < export.date,
            Export.dry_run.is_(False),
            Job.status == JobStatus.COMPLETED,
        )
    )
    return set(
        session.scalars(
            select(Sample.fingerprint).where(
                Sample.fingerprint.in_(fingerprints),
                Sample.reason.is_(None),
                Sample.export_id.in_(earlier) | (Sample.export_id == export.job_id),
            )
        )
    )


def repeats(session: Session, export_id: uuid.UUID, hashes: Sequence[str]) -> dict[str, int]:
    """How often the export has accepted each of these texts."""
    rows = session.execute(
        select(Sample.text_hash, func.count())
        .where(Sample.export_id == export_id, Sample.text_hash.in_(hashes), Sample.reason.is_(None))
        .group_by(Sample.text_hash)
    )
    return {text_hash: count for text_hash, count in rows}


def speech_of(session: Session, exports: Sequence[uuid.UUID]) -> Sequence[Any]:
    """Who said how much of what some exports accepted: (job_id, speaker, seconds, human, vector, voice_id)."""
    return session.execute(
        select(
            Sample.job_id,
            Sample.speaker,
            func.sum(Sample.seconds).label("seconds"),
            func.coalesce(func.sum(Sample.seconds).filter(Sample.human), 0.0).label("human"),
            func.max(StoredSpeaker.vector).label("vector"),
            func.max(cast(StoredSpeaker.voice_id, Text)).label("voice_id"),
        )
        .outerjoin(
            StoredSpeaker, (StoredSpeaker.job_id == Sample.job_id) & (StoredSpeaker.label == Sample.speaker)
        )
        .where(Sample.export_id.in_(exports), Sample.reason.is_(None))
        .group_by(Sample.job_id, Sample.speaker)
        .order_by(Sample.job_id, Sample.speaker)
    ).all()


def held_out(session: Session, exports: Sequence[uuid.UUID]) -> list[tuple[uuid.UUID, str]]:
    """Speakers of whom something is held out."""
    rows = session.execute(
        select(Sample.job_id, Sample.speaker)
        .where(Sample.export_id.in_(exports), Sample.reason.is_(None), Sample.split == Split.VAL)
        .distinct()
    )
    return [(job_id, speaker) for job_id, speaker in rows]


def place(
    session: Session,
    export_id: uuid.UUID,
    speaker: tuple[uuid.UUID, str],
    person: int,
    split: Split,
    *,
    machine: str | None,
) -> None:
    """Put what a speaker said into a split; what no person corrected is given the reason ``machine`` instead."""
    job_id, label = speaker
    theirs = update(Sample).where(
        Sample.export_id == export_id, Sample.job_id == job_id, Sample.speaker == label, Sample.reason.is_(None)
    )
    if machine is not None:
        session.execute(theirs.where(Sample.human.is_(False)).values(reason=machine))
    session.execute(theirs.values(person=person, split=split))


def unwritten(session: Session, export_id: uuid.UUID) -> Sequence[uuid.UUID]:
    """Jobs with accepted segments whose clips are not written yet."""
    return session.scalars(
        select(Sample.job_id)
        .where(Sample.export_id == export_id, Sample.reason.is_(None), Sample.sha256.is_(None))
        .group_by(Sample.job_id)
        .order_by(Sample.job_id)
    ).all()


CORRECTED_FIRST = (Sample.human.is_(False), Sample.person, Sample.job_id, Sample.segment, Sample.export_id)
BY_PERSON = CORRECTED_FIRST[1:]
BY_RECORDING = (Sample.job_id, Sample.segment, Sample.export_id)
"""Orders of samples; each tells every two apart."""


def accepted(
    sessions: Sessions, export_ids: Sequence[uuid.UUID], order: Sequence[Any] = CORRECTED_FIRST
) -> Iterator[Sample]:
    """Accepted samples, a page at a time and so in flat memory."""
    after: tuple[Any, ...] | None = None
    while True:
        query = select(Sample, *order).where(Sample.export_id.in_(export_ids), Sample.reason.is_(None))
        if after is not None:
            query = query.where(tuple_(*order) > after)
        with sessions() as session:
            page = session.execute(query.order_by(*order).limit(PAGE)).all()
        for row in page:
            yield row[0]
        if len(page) < PAGE:
            return
        after = tuple(page[-1][1:])


def decisions(session: Session, export_id: uuid.UUID) -> dict[str | None, int]:
    """How many segments were rejected for each reason, and how many were not (None)."""
    rows = session.execute(
        select(Sample.reason, func.count()).where(Sample.export_id == export_id).group_by(Sample.reason)
    )
    return {reason: count for reason, count in rows}


@dataclass(frozen=True, slots=True)
class Totals:
    """What an export accepted: clips, seconds and people of each split, seconds of each language and source."""

    splits: dict[Split, tuple[int, float, int]]
    languages: dict[str, float]
    sources: dict[str, float]


def totals(session: Session, export_id: uuid.UUID) -> Totals:
    mine = (Sample.export_id == export_id) & Sample.reason.is_(None)
    seconds = func.sum(Sample.seconds)
    splits = session.execute(
        select(Sample.split, func.count(), seconds, func.count(Sample.person.distinct()))
        .where(mine)
        .group_by(Sample.split)
    )
    found = {split: (count, length, persons) for split, count, length, persons in splits if split is not None}

    def by(name: str) -> dict[str, float]:
        label = func.coalesce(Sample.candidate[name].astext, "unknown")
        rows = session.execute(select(label, seconds).where(mine).group_by(label).order_by(label))
        return {value: length for value, length in rows}

    return Totals({split: found.get(split, (0, 0.0, 0)) for split in Split}, by("language"), by("source"))


def models(session: Session, export_id: uuid.UUID) -> dict[str, int]:
    """How many recordings each draft and refine model has read."""
    read = select(Sample.job_id).where(Sample.export_id == export_id, Sample.reason.is_(None))
    counts: Counter[str] = Counter()
    for of_job in session.scalars(select(Job.models).where(Job.id.in_(read))):
        counts.update(f"{role} {made['engine']} {made['model']}" for role, made in of_job.items())
    return dict(sorted(counts.items()))


def new_exports(session: Session, tenant: str) -> tuple[list[uuid.UUID], float]:
    """Complete exports that no fine-tuning has used, oldest first, and the seconds of speech in them."""
    used = (
        select(func.unnest(FineTune.exports))
        .join(Job, Job.id == FineTune.job_id)
        .where(FineTune.tenant == tenant, Job.status != JobStatus.FAILED, Job.status != JobStatus.CANCELLED)
    )
    rows = session.execute(
        select(Export.job_id, func.coalesce(func.sum(Sample.seconds), 0.0))
        .join(Job, Job.id == Export.job_id)
        .outerjoin(Sample, (Sample.export_id == Export.job_id) & Sample.reason.is_(None))
        .where(
            Export.tenant == tenant,
            Export.dry_run.is_(False),
            Job.status == JobStatus.COMPLETED,
            Job.deleted_at.is_(None),
            Export.job_id.not_in(used),
        )
        .group_by(Export.job_id, Export.date)
        .order_by(Export.date, Export.job_id)
    ).all()
    return [row[0] for row in rows], sum(row[1] for row in rows)


def start_finetune(
    session: Session,
    tenant: str,
    exports: Sequence[uuid.UUID],
    seconds: float,
    options: Mapping[str, Any],
    *,
    automatic: bool,
) -> JobTransaction:
    """Enqueue a fine-tuning on some exports."""
    job = _job(tenant, JobPurpose.FINETUNE, None)
    transaction = jobs.create(session, job, StepKind.FINETUNE)
    session.add(
        FineTune(
            job_id=job.id,
            tenant=tenant,
            exports=list(exports),
            seconds=seconds,
            automatic=automatic,
            options=dict(options),
        )
    )
    session.flush()
    return transaction


def tuning(session: Session, tenant: str) -> bool:
    """Whether a fine-tuning of the tenant is queued or at work. Until the transaction ends no other can start."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"finetune {tenant}"))))
    active = (
        select(Job.id)
        .join(FineTune, FineTune.job_id == Job.id)
        .where(FineTune.tenant == tenant, Job.status.in_((JobStatus.QUEUED, JobStatus.PROCESSING)))
    )
    return session.scalar(active.limit(1)) is not None
