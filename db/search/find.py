"""Searching the transcripts of a tenant: the newest segments that match, the best of them first.

A policy alone would make Postgres check every row of the table: an operator that is not leakproof, such as ``@@``,
finds nothing by index beneath one. Searches go through a view instead, which shows each session the rows of its
tenant, and which the planner sees through.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ColumnElement,
    DateTime,
    FromClause,
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

MOST_MISTYPED = 20 * MOST_RANKED
"""Segments with other spellings, of which the newest are looked for: hundreds of words may have very many."""

OWN = table("own_passages", *(column(each.name, each.type) for each in Passage.__table__.columns))

OWN_BY_WORDS = table("own_passages_by_words", *(column(each.name, each.type) for each in OWN.c))
"""The same rows, by the index of words alone. Where hundreds of spellings are looked for, the planner takes them
for one comparison of a row, and would rather read all rows of the tenant."""

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
    session.execute(BY_INDEX)
    found: list[tuple[RowMapping, Query]] = []
    if after is None or not after.mistyped:
        exact = _newest(OWN, filters).where(_matching(OWN, query))
        # 1: a long segment counts for less
        page = _page(exact, lambda rows: func.ts_rank_cd(rows.c.terms, _tsquery(query), 1), after, limit)
        found = [(row, query) for row in session.execute(page).mappings()]
    other = query.mistyped()
    if len(found) < limit and other is not None:
        words = OWN_BY_WORDS
        rare = select(words).where(_matching(words, other), ~_matching(words, query)).limit(MOST_MISTYPED).cte()
        begin = after if after is not None and after.mistyped else None
        # apart, so that the planner does not look for the newest one by one
        newest = _newest(rare.prefix_with("MATERIALIZED"), filters)
        page = _page(newest, lambda rows: literal(0), begin, limit - len(found))
        found += [(row, other) for row in session.execute(page).mappings()]
    return _complete(session, found, exactly=query)


def find_jobs(
    session: Session,
    query: Query,
    filters: Filters,
    *,
    limit: int,
    after: tuple[datetime, uuid.UUID] | None = None,
) -> Sequence[Job]:
    """Up to ``limit`` jobs that have what is looked for, all of them and not the best, newest first, from behind
    the (created_at, id) in ``after``. What is spelt otherwise does not count."""
    session.execute(BY_INDEX)
    having = _filtered(select(OWN.c.job_id), OWN, filters).where(_matching(OWN, query))
    found = select(Job).where(Job.id.in_(having))
    if after is not None:
        found = found.where(tuple_(Job.created_at, Job.id) < after)
    return session.scalars(found.order_by(*jobs.NEWEST).limit(limit)).all()


def _matching(passages: FromClause, query: Query) -> ColumnElement[bool]:
    return passages.c.terms.bool_op("@@")(_tsquery(query))


def _tsquery(query: Query) -> ColumnElement[Any]:
    return cast(literal(query.tsquery()), TSQUERY)


def _newest(passages: FromClause, filters: Filters) -> Select[Any]:
    """The newest passages that the filters leave."""
    of = passages.c
    left = _filtered(select(passages), passages, filters)
    return left.order_by(of.recorded_at.desc(), of.job_id, of["index"]).limit(MOST_RANKED)


def _filtered(selected: Select[Any], passages: FromClause, filters: Filters) -> Select[Any]:
    of = passages.c
    found = selected.join_from(passages, Job, Job.id == of.job_id).where(
        Job.deleted_at.is_(None), jobs.IS_TRANSCRIPTION
    )
    if filters.speaker is not None:
        named = select(StoredSpeaker.job_id, StoredSpeaker.label).where(StoredSpeaker.name == filters.speaker)
        found = found.where(or_(of.speaker == filters.speaker, tuple_(of.job_id, of.speaker).in_(named)))
    if filters.since is not None:
        found = found.where(of.recorded_at >= filters.since)
    if filters.until is not None:
        found = found.where(of.recorded_at < filters.until)
    if filters.source is not None:
        found = found.where(Job.options["source"].astext == filters.source)
    if filters.language is not None:
        found = found.where(of.language == filters.language)
    if filters.tag is not None:
        found = found.where(jobs.tagged(filters.tag))
    if filters.collection is not None:
        found = found.where(Job.id.in_(jobs.ids_in(filters.collection)))
    return found


def _page(
    newest: Select[Any], rank: Callable[[FromClause], ColumnElement[Any]], after: Place | None, limit: int
) -> Select[Any]:
    """The best of the newest, behind ``after``."""
    passages = newest.subquery()
    ranked = select(passages, cast(rank(passages), Numeric(8, 3)).label("rank")).subquery()
    page = select(ranked).limit(limit)
    if after is not None:
        page = page.where(_behind(ranked.c, after))
    return page.order_by(ranked.c.rank.desc(), ranked.c.recorded_at.desc(), ranked.c.job_id, ranked.c["index"])


def _behind(row: ReadOnlyColumnCollection[str, Any], place: Place) -> ColumnElement[bool]:
    at = cast(literal(place.recorded_at), DateTime(timezone=True))
    as_good = row.rank == place.rank
    as_new = and_(as_good, row.recorded_at == at)
    return or_(
        row.rank < place.rank,
        and_(as_good, row.recorded_at < at),
        and_(as_new, tuple_(row.job_id, row["index"]) > (place.job_id, place.index)),
    )


def _complete(session: Session, found: Sequence[tuple[RowMapping, Query]], *, exactly: Query) -> list[Hit]:
    """What was found by each query with what is kept elsewhere: jobs, names of speakers, times of words."""
    in_jobs = {row["job_id"] for row, _ in found}
    jobs_by_id = {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(in_jobs)))}
    speakers = select(StoredSpeaker.job_id, StoredSpeaker.label, StoredSpeaker.name).where(
        StoredSpeaker.job_id.in_(in_jobs)
    )
    names = {(job_id, label): name for job_id, label, name in session.execute(speakers)}
    finals = {(row["job_id"], row["index"]) for row, _ in found if not row["provisional"]}
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
            Place(query is not exactly, row["rank"], row["recorded_at"], row["job_id"], row["index"]),
        )
        for row, query in found
        # deleted since
        if row["job_id"] in jobs_by_id
    ]
