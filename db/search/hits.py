"""What was found: its place among the hits, and all that is shown of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Integer, RowMapping, Uuid, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from db.models import Job, Json, Passage, StoredSegment, StoredSpeaker

Spans = Sequence[tuple[int, int]]
"""(start, end) of parts of a text."""


SHOWN = "job_id", "index", "chunk", "start", "end", "text", "speaker", "language", "provisional"

_AT = func.unnest(bindparam("jobs", type_=ARRAY(Uuid)), bindparam("indexes", type_=ARRAY(Integer)))
_PLACES = _AT.table_valued("job_id", "index").render_derived("place")

# arrays, not lists of values: the statement is the same however many there are, and is prepared once
COMPLETE = (
    select(
        *(getattr(Passage, name) for name in SHOWN),
        Job.created_at,
        Job.filename,
        Job.title,
        StoredSpeaker.name.label("speaker_name"),
        StoredSegment.words,
    )
    .select_from(_PLACES)
    .join(Passage, (Passage.job_id == _PLACES.c.job_id) & (Passage.index == _PLACES.c.index))
    .join(Job, Job.id == Passage.job_id)
    .outerjoin(StoredSpeaker, (StoredSpeaker.job_id == Passage.job_id) & (StoredSpeaker.label == Passage.speaker))
    # of a draft there may be a final one of that number
    .outerjoin(
        StoredSegment,
        (StoredSegment.job_id == Passage.job_id) & (StoredSegment.index == Passage.index) & ~Passage.provisional,
    )
)


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

    passage: RowMapping
    """What is shown of the segment and its recording: ``SHOWN``, and what ``COMPLETE`` has beside."""
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
    behind = [place for place in places if after is None or place.is_behind(after)]
    in_order = sorted(behind, key=lambda place: (place.job_id.int, place.index))
    best = sorted(in_order, key=lambda place: (place.rank, place.recorded_at), reverse=True)
    # each was found once, or twice
    return list(dict.fromkeys(best[: 2 * limit]))[:limit]


def complete(session: Session, places: Sequence[Place], highlights: Callable[[Place, str], Spans]) -> list[Hit]:
    """What is at these places, with what is kept elsewhere: jobs, names of speakers, times of words.

    ``highlights`` tells of a text what was looked for."""
    given = {"jobs": [place.job_id for place in places], "indexes": [place.index for place in places]}
    found = {(row["job_id"], row["index"]): row for row in session.execute(COMPLETE, given).mappings()}
    return [
        Hit(row, row["words"] or (), highlights(place, row["text"]), place)
        for place in places
        # of those that were deleted since there is none
        if (row := found.get((place.job_id, place.index))) is not None
    ]
