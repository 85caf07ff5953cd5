"""Queries on the samples of exports: what was accepted, from whom, and into which split."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Text, cast, func, select, tuple_, update
from sqlalchemy.orm import Session

from db.models import (
    Export,
    Job,
    JobStatus,
    Sample,
    Split,
    StoredSpeaker,
)
from db.session import Sessions

PAGE = 5000
"""Samples read at once."""


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
