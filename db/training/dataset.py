"""Queries on the samples of exports: decisions, speakers, splits and totals."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Text, cast, func, select, tuple_, update
from sqlalchemy.orm import Session

from db.models import Export, Job, Sample, Split, StoredSpeaker
from db.session import Sessions

PAGE_SIZE = 5000
"""Samples read at once."""


def accepted_fingerprints(session: Session, export: Export, fingerprints: Sequence[str]) -> set[str]:
    """Those of the fingerprints that a completed earlier export, or this one so far, has accepted."""
    earlier = select(Export.job_id).where(
        Export.tenant == export.tenant,
        Export.date < export.date,
        Export.dry_run.is_(False),
        # complete, though its lists may be written anew at the moment
        Export.summary.is_not(None),
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


def count_texts(session: Session, export_id: uuid.UUID, hashes: Sequence[str]) -> dict[str, int]:
    """How often the export has accepted each of these texts."""
    rows = session.execute(
        select(Sample.text_hash, func.count())
        .where(Sample.export_id == export_id, Sample.text_hash.in_(hashes), Sample.reason.is_(None))
        .group_by(Sample.text_hash)
    )
    return {text_hash: count for text_hash, count in rows}


def speech_by_speaker(session: Session, exports: Sequence[uuid.UUID]) -> Sequence[Any]:
    """Accepted speech of some exports as rows of (job_id, speaker, seconds, human, vector, voice_id).

    ``human`` is the seconds that a person corrected.
    """
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


def held_out_speakers(session: Session, exports: Sequence[uuid.UUID]) -> list[tuple[uuid.UUID, str]]:
    """(job_id, speaker) of everybody with accepted speech in the validation split."""
    rows = session.execute(
        select(Sample.job_id, Sample.speaker)
        .where(Sample.export_id.in_(exports), Sample.reason.is_(None), Sample.split == Split.VAL)
        .distinct()
    )
    return [(job_id, speaker) for job_id, speaker in rows]


def assign_split(
    session: Session,
    export_id: uuid.UUID,
    speaker: tuple[uuid.UUID, str],
    person: int,
    split: Split,
    *,
    uncorrected_reason: str | None,
) -> None:
    """Put a speaker's accepted samples into a split.

    With ``uncorrected_reason``, samples that no person corrected are rejected for that reason instead.
    """
    job_id, label = speaker
    samples = update(Sample).where(
        Sample.export_id == export_id, Sample.job_id == job_id, Sample.speaker == label, Sample.reason.is_(None)
    )
    if uncorrected_reason is not None:
        session.execute(samples.where(Sample.human.is_(False)).values(reason=uncorrected_reason))
    session.execute(samples.values(person=person, split=split))


def jobs_with_unwritten_clips(session: Session, export_id: uuid.UUID) -> Sequence[uuid.UUID]:
    return session.scalars(
        select(Sample.job_id)
        .where(Sample.export_id == export_id, Sample.reason.is_(None), Sample.sha256.is_(None))
        .group_by(Sample.job_id)
        .order_by(Sample.job_id)
    ).all()


CORRECTED_FIRST = (Sample.human.is_(False), Sample.person, Sample.job_id, Sample.segment, Sample.export_id)
BY_PERSON = CORRECTED_FIRST[1:]
BY_RECORDING = (Sample.job_id, Sample.segment, Sample.export_id)
"""Sort orders of samples; each is unique, so that pages can be continued."""


def accepted(
    sessions: Sessions, export_ids: Sequence[uuid.UUID], order: Sequence[Any] = CORRECTED_FIRST
) -> Iterator[Sample]:
    """Accepted samples, read page by page: memory does not grow with their number."""
    after: tuple[Any, ...] | None = None
    while True:
        query = select(Sample, *order).where(Sample.export_id.in_(export_ids), Sample.reason.is_(None))
        if after is not None:
            query = query.where(tuple_(*order) > after)
        with sessions() as session:
            page = session.execute(query.order_by(*order).limit(PAGE_SIZE)).all()
        for row in page:
            yield row[0]
        if len(page) < PAGE_SIZE:
            return
        after = tuple(page[-1][1:])


def accepted_seconds(session: Session, export_id: uuid.UUID) -> float:
    """Audio of the export's accepted samples."""
    total = select(func.sum(Sample.seconds)).where(Sample.export_id == export_id, Sample.reason.is_(None))
    return session.scalar(total) or 0.0


def count_by_reason(session: Session, export_id: uuid.UUID) -> dict[str | None, int]:
    """Number of segments rejected for each reason; None counts the accepted ones."""
    rows = session.execute(
        select(Sample.reason, func.count()).where(Sample.export_id == export_id).group_by(Sample.reason)
    )
    return {reason: count for reason, count in rows}


def count_models(session: Session, export_id: uuid.UUID) -> dict[str, int]:
    """Number of accepted recordings that each draft and refine model transcribed."""
    accepted_jobs = select(Sample.job_id).where(Sample.export_id == export_id, Sample.reason.is_(None))
    counts: Counter[str] = Counter()
    for models in session.scalars(select(Job.models).where(Job.id.in_(accepted_jobs))):
        counts.update(f"{role} {model['engine']} {model['model']}" for role, model in models.items())
    return dict(sorted(counts.items()))


@dataclass(frozen=True, slots=True)
class Totals:
    """Accepted clips, seconds and persons by split; accepted seconds by language and by source."""

    splits: dict[Split, tuple[int, float, int]]
    languages: dict[str, float]
    sources: dict[str, float]


def totals(session: Session, export_id: uuid.UUID) -> Totals:
    condition = (Sample.export_id == export_id) & Sample.reason.is_(None)
    seconds = func.sum(Sample.seconds)
    splits = session.execute(
        select(Sample.split, func.count(), seconds, func.count(Sample.person.distinct()))
        .where(condition)
        .group_by(Sample.split)
    )
    by_split = {split: (count, length, persons) for split, count, length, persons in splits if split is not None}

    def seconds_by(name: str) -> dict[str, float]:
        label = func.coalesce(Sample.candidate[name].astext, "unknown")
        rows = session.execute(select(label, seconds).where(condition).group_by(label).order_by(label))
        return {value: length for value, length in rows}

    return Totals(
        {split: by_split.get(split, (0, 0.0, 0)) for split in Split}, seconds_by("language"), seconds_by("source")
    )
