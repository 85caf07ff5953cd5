"""What people's corrections say of the models, and what the models have learnt from them.

Error rates are of recordings that people corrected: characters that they changed, over those they left there or
wrote. Of a recording that nobody looked through, nobody knows what is wrong.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pydantic import BaseModel, Field
from rapidfuzz.distance import Levenshtein
from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from db.models import Job, JobStatus, ModelVersion, Role, StoredSegment, StoredSpeaker, StoredVoice
from db.training import versions
from speech.text.script import normalise

MAX_SEGMENTS = 20_000
"""Of the latest recordings that people corrected: more change no rate by much."""
MAX_LEARNT = 50
"""Clips shown."""
MAX_VERSIONS = 10
"""The latest, of which clips are shown."""


class ErrorRate(BaseModel):
    """``name`` is the Monday of a week, a voice, or a language."""

    name: str
    rate: float = Field(description="Characters that people changed, of all.")
    characters: int
    minutes: float


class Learnt(BaseModel):
    """A clip that a version writes right, and its base did not; nobody trained on it."""

    version: int
    job_id: uuid.UUID
    segment: int
    start: float
    end: float
    wrong: str = Field(description="The words as they were written.")
    right: str = Field(description="The same, as a person corrected them.")
    text: str


class Cost(BaseModel):
    version: int
    role: Role
    minutes: float = Field(description="Of tuning.")


class Report(BaseModel):
    weeks: list[ErrorRate]
    voices: list[ErrorRate]
    languages: list[ErrorRate]
    learnt: list[Learnt]
    cost: list[Cost]


def report(session: Session, tenant: str, weeks: int) -> Report:
    """Of the weeks until now."""
    since = datetime.now(UTC) - timedelta(weeks=weeks)
    rows = session.execute(
        select(
            StoredSegment.text,
            StoredSegment.machine["text"].astext.label("machine"),
            (StoredSegment.end - StoredSegment.start).label("seconds"),
            StoredSegment.language,
            StoredVoice.name.label("voice"),
            Job.completed_at,
        )
        .join(Job, Job.id == StoredSegment.job_id)
        .outerjoin(
            StoredSpeaker,
            (StoredSpeaker.job_id == StoredSegment.job_id) & (StoredSpeaker.label == StoredSegment.speaker),
        )
        .outerjoin(StoredVoice, StoredVoice.id == StoredSpeaker.voice_id)
        .where(
            *(Job.tenant == tenant, Job.deleted_at.is_(None), Job.status == JobStatus.COMPLETED),
            *(Job.corrected_at.is_not(None), Job.completed_at >= since),
        )
        .order_by(Job.completed_at.desc())
        .limit(MAX_SEGMENTS)
        .execution_options(yield_per=1000)
    )
    by: dict[str, dict[str, _Tally]] = {name: defaultdict(_Tally) for name in ("week", "voice", "language")}
    for row in rows:
        names = {"week": _monday(row.completed_at), "voice": row.voice, "language": row.language}
        for kind, name in names.items():
            if name is not None:
                by[kind][str(name)].add(row.text, row.machine, row.seconds)
    stored = versions.newest_first(session, tenant)
    return Report(
        weeks=_rates(by["week"]),
        voices=_rates(by["voice"]),
        languages=_rates(by["language"]),
        learnt=list(_learnt(session, tenant, stored[:MAX_VERSIONS])),
        cost=[
            Cost(version=each.number, role=each.role, minutes=round(each.metrics.get("seconds", 0.0) / 60, 1))
            for each in stored
        ],
    )


class _Tally:
    def __init__(self) -> None:
        self.wrong = self.characters = 0
        self.seconds = 0.0

    def add(self, text: str, machine: str | None, seconds: float) -> None:
        """``machine`` is what a person has changed, if anybody has."""
        corrected = normalise(text)
        if machine is not None:
            self.wrong += Levenshtein.distance(normalise(machine), corrected)
        self.characters += len(corrected)
        self.seconds += seconds


def _rates(tallies: Mapping[str, _Tally]) -> list[ErrorRate]:
    return [
        ErrorRate(
            name=name,
            rate=round(tally.wrong / tally.characters, 4),
            characters=tally.characters,
            minutes=round(tally.seconds / 60, 1),
        )
        for name, tally in sorted(tallies.items())
        if tally.characters
    ]


def _monday(moment: datetime) -> date:
    day = moment.astimezone(UTC).date()
    return day - timedelta(days=day.weekday())


def _learnt(session: Session, tenant: str, stored: Sequence[ModelVersion]) -> Iterator[Learnt]:
    """Versions keep no words of a recording: where that is gone, so is what is told of it."""
    places = [(version, _place(key)) for version in stored for key in version.metrics.get("learnt", ())]
    found = session.scalars(
        select(StoredSegment)
        .join(Job, Job.id == StoredSegment.job_id)
        .where(
            tuple_(StoredSegment.job_id, StoredSegment.index).in_([place for _, place in places]),
            *(Job.tenant == tenant, Job.deleted_at.is_(None), StoredSegment.machine.is_not(None)),
        )
    )
    segments = {(segment.job_id, segment.index): segment for segment in found}
    shown = 0
    for version, place in places:
        segment = segments.get(place)
        if segment is not None and shown < MAX_LEARNT and (changed := _changed(segment)):
            shown += 1
            yield Learnt(
                version=version.number,
                job_id=segment.job_id,
                segment=segment.index,
                start=segment.start,
                end=segment.end,
                text=segment.text,
                **changed,
            )


def _place(key: str) -> tuple[uuid.UUID, int]:
    """Job and segment of a clip (``speech.training.dataset.candidates``)."""
    job_id, _, number = key.rpartition("-")
    return uuid.UUID(job_id), int(number)


def _changed(segment: StoredSegment) -> dict[str, Any] | None:
    """The words that a person replaced, and by which."""
    machine: Mapping[str, Any] = segment.machine or {}
    before, after = str(machine.get("text") or "").split(), segment.text.split()
    codes = Levenshtein.opcodes([normalise(word) for word in before], [normalise(word) for word in after])
    changes = [code for code in codes if code.tag != "equal"]
    if not changes:
        return None
    wrong = " … ".join(" ".join(before[code.src_start : code.src_end]) for code in changes)
    right = " … ".join(" ".join(after[code.dest_start : code.dest_end]) for code in changes)
    return {"wrong": wrong, "right": right}
