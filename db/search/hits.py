"""What was found: its place among the hits, and all that is shown of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import RowMapping, select, tuple_
from sqlalchemy.orm import Session

from db.models import Job, Json, Passage, StoredSegment, StoredSpeaker

Spans = Sequence[tuple[int, int]]
"""(start, end) of parts of a text."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a hit is among the others, and where a page of them ended."""

    mistyped: bool
    """Whether among the hits with other spellings, which follow the exact ones."""
    rank: Decimal
    recorded_at: datetime
    job_id: uuid.UUID
    index: int

    def is_behind(self, other: Place) -> bool:
        """Whether it comes later, of two that both are mistyped or are not: the best first, then the newest."""
        good, as_good = (self.rank, self.recorded_at), (other.rank, other.recorded_at)
        return good < as_good or (good == as_good and (self.job_id, self.index) > (other.job_id, other.index))


@dataclass(frozen=True, slots=True)
class Hit:
    """A segment that was found."""

    job: Job
    passage: RowMapping
    """With the columns of ``Passage``."""
    speaker_name: str | None
    words: Sequence[Json]
    """Of a final segment."""
    highlights: Spans
    place: Place

    @property
    def play_from(self) -> float:
        """Seconds of the recording at which the first of what was looked for begins."""
        offset = self.highlights[0][0] if self.highlights else 0
        end = 0
        text = self.passage["text"]
        for word in self.words:
            start = text.find(word["text"], end)
            end = start + len(word["text"]) if start >= 0 else end
            if end > offset:
                return float(word["start"])
        # nobody keeps when the words of a draft begin
        start, duration = self.passage["start"], self.passage["end"] - self.passage["start"]
        return round(float(start + duration * offset / max(len(text), 1)), 3)


def page(places: Iterable[Place], after: Place | None, limit: int) -> list[Place]:
    """Best first, and the newest of equals."""
    behind = {place for place in places if after is None or place.is_behind(after)}
    in_order = sorted(behind, key=lambda place: (place.job_id, place.index))
    return sorted(in_order, key=lambda place: (place.rank, place.recorded_at), reverse=True)[:limit]


def complete(session: Session, places: Sequence[Place], highlights: Callable[[Place, str], Spans]) -> list[Hit]:
    """What is at these places, with what is kept elsewhere: jobs, names of speakers, times of words.

    ``highlights`` tells of a text what was looked for."""
    in_jobs = {place.job_id for place in places}
    keys = [(place.job_id, place.index) for place in places]
    found = select(Passage.__table__).where(tuple_(Passage.job_id, Passage.index).in_(keys))
    passages = {(row["job_id"], row["index"]): row for row in session.execute(found).mappings()}
    jobs_by_id = {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(in_jobs)))}
    speakers = select(StoredSpeaker.job_id, StoredSpeaker.label, StoredSpeaker.name).where(
        StoredSpeaker.job_id.in_(in_jobs)
    )
    names = {(job_id, label): name for job_id, label, name in session.execute(speakers)}
    finals = [key for key, row in passages.items() if not row["provisional"]]
    segments = select(StoredSegment.job_id, StoredSegment.index, StoredSegment.words).where(
        tuple_(StoredSegment.job_id, StoredSegment.index).in_(finals)
    )
    words = {(job_id, index): spoken for job_id, index, spoken in session.execute(segments)}
    return [
        Hit(
            jobs_by_id[key[0]],
            passages[key],
            names.get((key[0], passages[key]["speaker"])),
            words.get(key, ()),
            highlights(place, passages[key]["text"]),
            place,
        )
        for key, place in zip(keys, places, strict=True)
        # deleted since
        if key[0] in jobs_by_id and key in passages
    ]
