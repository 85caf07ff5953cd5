"""Searching the transcripts of a tenant: the newest segments that match, the best of them first.

What is read does not grow with what is kept. The newest recordings are read through. Where few of their segments
match, the index tells which others have the words: among those that were written last, then among more, then among
all. What hardly matches among a few is not common among sixteen times as many.

A policy alone would make Postgres check every row of the table: an operator that is not leakproof, such as ``@@``,
finds nothing by index beneath one. The index is asked through a view instead, which shows each session the rows of
its tenant, and which the planner sees through.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import accumulate
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Numeric,
    RowMapping,
    Select,
    Subquery,
    Text,
    Uuid,
    any_,
    cast,
    column,
    func,
    literal,
    or_,
    select,
    table,
    text,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSQUERY
from sqlalchemy.orm import Session

from db import jobs
from db.models import Job, Json, Passage, StoredSegment, StoredSpeaker
from db.models.search import COARSE, FINE
from db.search.lexemes import mark
from db.search.query import Query

MOST_RANKED = 500
"""The newest so many matches are ranked; who looks for more than that looks for something else."""

MOST_READ = 20_000
"""Segments with the words, wherever they stand in them, of which those are taken that match: in each round."""

MOST_MISTYPED = MOST_READ // 2
"""The same of segments with other spellings, of which there may be very many: there is one round."""

NEWEST_CHUNKS = 1000
NEWEST_RECORDINGS = 1000
"""Of the recordings that are read through: as many as have so many chunks, and no more than that."""

OWN = table(
    "own_passages",
    *(column(each.name, each.type) for each in Passage.__table__.columns),
    *(column("eras", ARRAY(BigInteger)), column("languages", ARRAY(Text))),
)

BY_INDEX = text(
    "SELECT set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true), "
    "set_config('max_parallel_workers_per_gather', '0', true), set_config('statement_timeout', '5s', true)"
)
"""Compiling a search, or dividing it among processes, takes longer than the search; none is worth five seconds."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Where to search; everywhere, where nothing is said."""

    speaker: str | None = None
    """A name, or a label of a recording."""
    since: datetime | None = None
    until: datetime | None = None
    """Of when the jobs were made, the latter excluded."""
    source: str | None = None
    language: str | None = None
    tag: str | None = None
    collection: uuid.UUID | None = None


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
    highlights: Sequence[tuple[int, int]]
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


def find(session: Session, query: Query, filters: Filters, *, limit: int, after: Place | None = None) -> list[Hit]:
    """Up to ``limit`` hits behind ``after``, in a session of the tenant.

    Best first, and the newest of equals. Where what was typed finds fewer, other spellings of its words follow.
    """
    session.execute(BY_INDEX)
    places: list[Place] = []
    if after is None or not after.mistyped:
        places = _page(_exact(session, query, filters), after, limit)
    other = query.mistyped()
    if len(places) < limit and other is not None:
        begin = after if after is not None and after.mistyped else None
        places += _page(_mistyped(session, query, other, filters), begin, limit - len(places))
    return _complete(session, places, query, other)


def _page(places: Sequence[Place], after: Place | None, limit: int) -> list[Place]:
    return [place for place in places if after is None or place.is_behind(after)][:limit]


def _exact(session: Session, query: Query, filters: Filters) -> Sequence[Place]:
    """The newest matches, the best first."""
    recordings = _recordings(filters)
    newest, are_all = _newest(session, recordings)
    if filters.speaker is not None and not are_all:
        named = select(StoredSpeaker.job_id).where(StoredSpeaker.name == filters.speaker)
        # others may have the name as a label
        newest = _newest(session, recordings.where(Job.id.in_(named)))[0] or newest
    read = select(Passage).where(_in(newest)).subquery()
    places = _ranked(session, read, query, filters)
    if are_all or len(places) == MOST_RANKED:
        return places
    for era in _eras(session, newest):
        having = _having(session, query, filters, MOST_READ, era)
        places = _ranked(session, having, query, filters, having.c.job_id.in_(recordings))
        if len(places) == MOST_RANKED:
            break
    return places


def _mistyped(session: Session, query: Query, other: Query, filters: Filters) -> Sequence[Place]:
    """Matches with other spellings alone, the newest first."""
    having = _having(session, other, filters, MOST_MISTYPED)
    shown = having.c.job_id.in_(_recordings(filters)), ~_matching(session, having, query)
    return _ranked(session, having, other, filters, *shown, mistyped=True)


def _recordings(filters: Filters) -> Select[uuid.UUID]:
    """The ids of those that the filters leave."""
    found = select(Job.id).where(Job.deleted_at.is_(None), jobs.IS_TRANSCRIPTION)
    if filters.since is not None:
        found = found.where(Job.created_at >= filters.since)
    if filters.until is not None:
        found = found.where(Job.created_at < filters.until)
    if filters.source is not None:
        found = found.where(Job.options["source"].astext == filters.source)
    if filters.tag is not None:
        found = found.where(jobs.tagged(filters.tag))
    if filters.collection is not None:
        found = found.where(Job.id.in_(jobs.ids_in(filters.collection)))
    return found


def _newest(session: Session, recordings: Select[uuid.UUID]) -> tuple[Sequence[uuid.UUID], bool]:
    """The ids of the newest recordings, and whether there are no others."""
    by_time = recordings.add_columns(Job.chunks).order_by(Job.created_at.desc(), Job.id).limit(NEWEST_RECORDINGS)
    found = session.execute(by_time).all()
    before = accumulate((chunks for _, chunks in found), initial=0)
    newest = [job_id for (job_id, _), chunks in zip(found, before, strict=False) if chunks < NEWEST_CHUNKS]
    return newest, len(newest) == len(found) < NEWEST_RECORDINGS


def _eras(session: Session, newest: Sequence[uuid.UUID]) -> Iterator[list[int] | None]:
    """Those in which the newest recordings and those before them were written, in growing numbers; None: all."""
    last = session.scalar(select(func.max(Passage.number)).where(_in(newest)))
    if last is not None:
        yield list(_around(last >> FINE))
        yield [-1 - era for era in _around(last >> COARSE)]
    yield None


def _around(era: int) -> range:
    """With the one before, which may have the most of it, and the one behind, for what was corrected since."""
    return range(max(era - 1, 0), era + 2)


def _in(recordings: Sequence[uuid.UUID]) -> ColumnElement[bool]:
    return Passage.job_id == any_(literal(recordings, ARRAY(Uuid)))


def _having(
    session: Session, query: Query, filters: Filters, most: int, eras: Sequence[int] | None = None
) -> Subquery:
    """Up to ``most`` passages that have the words, in whatever order: the index alone tells which."""
    own = OWN.c
    found = select(OWN).where(own.terms.bool_op("@@")(_tsquery(query.needed(_mark(session)))))
    if eras is not None:
        found = found.where(own.eras.overlap(eras))
    if filters.language is not None:
        found = found.where(own.languages.overlap([filters.language]))
    return found.limit(most).subquery()


def _ranked(
    session: Session,
    passages: Subquery,
    query: Query,
    filters: Filters,
    *conditions: ColumnElement[bool],
    mistyped: bool = False,
) -> Sequence[Place]:
    """Of these passages the newest that match, in the order of hits."""
    of = passages.c
    key = of.recorded_at.desc(), of.job_id, of["index"]
    found = select(of.recorded_at, of.job_id, of["index"], of.terms).where(
        _matching(session, passages, query), *conditions
    )
    if filters.speaker is not None:
        named = select(StoredSpeaker.job_id, StoredSpeaker.label).where(StoredSpeaker.name == filters.speaker)
        found = found.where(or_(of.speaker == filters.speaker, tuple_(of.job_id, of.speaker).in_(named)))
    if filters.language is not None:
        found = found.where(of.language == filters.language)
    newest = found.order_by(*key).limit(MOST_RANKED).subquery().c
    # 1: a long segment counts for less
    how_good = literal(0) if mistyped else func.ts_rank_cd(newest.terms, _full(session, query), 1)
    rank = cast(how_good, Numeric(8, 3)).label("rank")
    ordered = select(rank, newest.recorded_at, newest.job_id, newest["index"]).order_by(
        rank.desc(), newest.recorded_at.desc(), newest.job_id, newest["index"]
    )
    return [Place(mistyped, *row) for row in session.execute(ordered)]


def _matching(session: Session, passages: Subquery, query: Query) -> ColumnElement[bool]:
    return passages.c.terms.bool_op("@@")(_full(session, query))


def _full(session: Session, query: Query) -> ColumnElement[Any]:
    return _tsquery(query.tsquery(_mark(session)))


def _tsquery(notation: str) -> ColumnElement[Any]:
    return cast(literal(notation), TSQUERY)


def _mark(session: Session) -> str:
    return mark(session.info["tenant"])


def _complete(session: Session, places: Sequence[Place], exact: Query, other: Query | None) -> list[Hit]:
    """What is at these places, with what is kept elsewhere: jobs, names of speakers, times of words."""
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
            (other if place.mistyped and other is not None else exact).highlights(passages[key]["text"]),
            place,
        )
        for key, place in zip(keys, places, strict=True)
        # deleted since
        if key[0] in jobs_by_id and key in passages
    ]
