"""Searching the transcripts of a tenant: the newest segments that match, the best of them first.

A policy alone would make Postgres check every row of the table: an operator that is not leakproof, such as ``@@``,
finds nothing by index beneath one. Searches go through a view instead, which shows each session the rows of its
tenant, and which the planner sees through.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Numeric,
    RowMapping,
    Select,
    and_,
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
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.orm import Session
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from db import jobs
from db.models import Job, Json, Passage, StoredSegment, StoredSpeaker
from db.search.query import Query

MOST_RANKED = 500
"""The newest so many matches are ranked; who looks for more than that looks for something else."""

OWN = table("own_passages", *(column(each.name, each.type) for each in Passage.__table__.columns))

NO_JIT = text("SELECT set_config('jit', 'off', true)")
"""Compiling a search takes longer than running it."""


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
    """Where a page of hits ended."""

    mistyped: bool
    """Whether among the hits with other spellings, which follow the exact ones."""
    rank: Decimal
    recorded_at: datetime
    job_id: uuid.UUID
    index: int


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
    session.execute(NO_JIT)
    hits: list[Hit] = []
    if after is None or not after.mistyped:
        hits = _hits(session, query, _matches(query, filters), after, limit, mistyped=False)
    other = query.mistyped()
    if len(hits) < limit and other is not None:
        matches = _matches(other, filters).where(~_matching(query))
        begin = after if after is not None and after.mistyped else None
        hits += _hits(session, other, matches, begin, limit - len(hits), mistyped=True)
    return hits


def _matching(query: Query) -> ColumnElement[bool]:
    return OWN.c.terms.bool_op("@@")(_tsquery(query))


def _tsquery(query: Query) -> ColumnElement[Any]:
    return cast(literal(query.tsquery()), TSQUERY)


def _matches(query: Query, filters: Filters) -> Select[Any]:
    found = (
        select(*OWN.c)
        .join_from(OWN, Job, Job.id == OWN.c.job_id)
        .where(_matching(query), Job.deleted_at.is_(None), jobs.IS_TRANSCRIPTION)
    )
    if filters.speaker is not None:
        named = select(StoredSpeaker.job_id, StoredSpeaker.label).where(StoredSpeaker.name == filters.speaker)
        labelled = tuple_(OWN.c.job_id, OWN.c.speaker).in_(named)
        found = found.where(or_(OWN.c.speaker == filters.speaker, labelled))
    if filters.since is not None:
        found = found.where(OWN.c.recorded_at >= filters.since)
    if filters.until is not None:
        found = found.where(OWN.c.recorded_at < filters.until)
    if filters.source is not None:
        found = found.where(Job.options["source"].astext == filters.source)
    if filters.language is not None:
        found = found.where(OWN.c.language == filters.language)
    if filters.tag is not None:
        found = found.where(jobs.tagged(filters.tag))
    if filters.collection is not None:
        found = found.where(Job.id.in_(jobs.ids_in(filters.collection)))
    return found


def _hits(
    session: Session, query: Query, matches: Select[Any], after: Place | None, limit: int, *, mistyped: bool
) -> list[Hit]:
    newest = matches.order_by(OWN.c.recorded_at.desc(), OWN.c.job_id, OWN.c["index"]).limit(MOST_RANKED).subquery()
    # 1: a long segment counts for less
    rank = func.round(cast(func.ts_rank_cd(newest.c.terms, _tsquery(query), 1), Numeric), 3)
    ranked = select(newest, rank.label("rank")).subquery()
    page = select(ranked)
    if after is not None:
        page = page.where(_behind(ranked.c, after))
    order = ranked.c.rank.desc(), ranked.c.recorded_at.desc(), ranked.c.job_id, ranked.c["index"]
    rows = session.execute(page.order_by(*order).limit(limit)).mappings().all()
    return _complete(session, query, rows, mistyped=mistyped)


def _behind(row: ReadOnlyColumnCollection[str, Any], place: Place) -> ColumnElement[bool]:
    at = cast(literal(place.recorded_at), DateTime(timezone=True))
    as_good = row.rank == place.rank
    as_new = and_(as_good, row.recorded_at == at)
    return or_(
        row.rank < place.rank,
        and_(as_good, row.recorded_at < at),
        and_(as_new, tuple_(row.job_id, row["index"]) > (place.job_id, place.index)),
    )


def _complete(session: Session, query: Query, rows: Sequence[RowMapping], *, mistyped: bool) -> list[Hit]:
    """The rows with what is kept elsewhere: their jobs, the names of speakers, the times of words."""
    in_jobs = {row["job_id"] for row in rows}
    jobs_by_id = {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(in_jobs)))}
    speakers = select(StoredSpeaker.job_id, StoredSpeaker.label, StoredSpeaker.name).where(
        StoredSpeaker.job_id.in_(in_jobs)
    )
    names = {(job_id, label): name for job_id, label, name in session.execute(speakers)}
    finals = {(row["job_id"], row["index"]) for row in rows if not row["provisional"]}
    segments = select(StoredSegment.job_id, StoredSegment.index, StoredSegment.words).where(
        tuple_(StoredSegment.job_id, StoredSegment.index).in_(finals)
    )
    words = {(job_id, index): spoken for job_id, index, spoken in session.execute(segments)}
    return [
        Hit(
            jobs_by_id[row["job_id"]],
            row,
            names.get((row["job_id"], row["speaker"])),
            words.get((row["job_id"], row["index"]), ()),
            query.highlights(row["text"]),
            Place(mistyped, row["rank"], row["recorded_at"], row["job_id"], row["index"]),
        )
        for row in rows
        # deleted since
        if row["job_id"] in jobs_by_id
    ]
