"""Searching the transcripts of a tenant: the newest segments that match, the best of them first.

What is read does not grow with what is kept. The newest recordings are read through. Where few of their segments
match, the index tells which others have the words: among those that were written last, then among more, then among
all. What hardly matches among a few is not common among sixteen times as many.

A policy alone would make Postgres check every row of the table: an operator that is not leakproof, such as ``@@``,
finds nothing by index beneath one. The index is asked through a view instead, which shows each session the rows of
its tenant, and which the planner sees through.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg.errors import QueryCanceled
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Numeric,
    Select,
    Subquery,
    Text,
    Uuid,
    any_,
    cast,
    column,
    exists,
    func,
    literal,
    select,
    table,
    true,
    tuple_,
    union,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSQUERY
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import InstrumentedAttribute, Session

from db import jobs
from db.models import Job, Passage
from db.models.search import COARSE, FINE
from db.search.filters import BY_INDEX, Filters, Part, configure, having_chunks, parts_of
from db.search.hits import Hit, Place, Spans, complete, page
from db.search.lexemes import mark
from db.search.query import Query

MOST_RANKED = 500
"""The newest so many matches are ranked; who looks for more than that looks for something else."""

MOST_READ = 10_000
"""Segments with the words, wherever they stand in them, of which those are taken that match: in each round."""

MOST_GUESSED = 2_000
"""The same of those with other spellings of the words."""

NEAR_CHUNKS, FAR_CHUNKS = 1000, 20_000
"""The newest recordings that have so many are read through; and up to the latter, if these should have enough."""

NEAR_ERAS, MOST_ERAS = 3, 48
"""How many the index is asked for at first, and at most by name."""

FEW_RECORDINGS, MOST_RECORDINGS = 50, 1000
"""Looked up at first, if nothing filters them, and at most. Fewer than the latter are searched by their ids."""

READ = "recorded_at", "job_id", "index", "terms", "speaker", "language"
"""Columns of passages that are matched and ranked."""

OWN = table(
    "own_passages",
    *(column(each.name, each.type) for each in Passage.__table__.columns),
    *(column("eras", ARRAY(BigInteger)), column("languages", ARRAY(Text))),
)


class TooBroad(Exception):
    """More is found than can be read in time."""


def find(session: Session, query: Query, filters: Filters, *, limit: int, after: Place | None = None) -> list[Hit]:
    """Up to ``limit`` hits behind ``after``, in a session of the tenant.

    Best first, and the newest of equals. Where what was typed finds fewer, other spellings of its words follow.
    """
    configure(session, BY_INDEX)
    parts = parts_of(session, filters)
    places: list[Place] = []
    if after is None or not after.mistyped:
        exact = (place for part in parts for place in _exact(session, query, filters, part))
        places = page(exact, after, limit)
    other = query.mistyped()
    if len(places) < limit and other is not None:
        begin = after if after is not None and after.mistyped else None
        mistyped = (place for part in parts for place in _mistyped(session, query, other, filters, part))
        places += page(mistyped, begin, limit - len(places))

    def highlights(place: Place, text: str) -> Spans:
        return (other if place.mistyped and other is not None else query).highlights(text)

    return complete(session, places, highlights)


def find_jobs(
    session: Session,
    query: Query,
    filters: Filters,
    *,
    limit: int,
    after: tuple[datetime, uuid.UUID] | None = None,
) -> Sequence[Job]:
    """Up to ``limit`` jobs that have what is looked for, all of them and not the best, newest first, from behind
    the (created_at, id) in ``after``. What is spelt otherwise does not count.

    Raises TooBroad after five seconds."""
    configure(session, BY_INDEX)
    passages = select(OWN).where(OWN.c.terms.bool_op("@@")(_tsquery(query.needed(_mark(session))))).subquery()
    having = [
        select(passages.c.job_id).where(
            _matching(session, passages, query),
            passages.c.job_id.in_(_until(part.recordings, after)),
            *([] if part.speaks is None else [part.speaks(passages)]),
            *([] if filters.language is None else [passages.c.language == filters.language]),
        )
        for part in parts_of(session, filters)
    ]
    if not having:
        return []
    # one set of ids: either of two would have every job looked at
    ids = having[0] if len(having) == 1 else union(*having)
    found = select(Job).where(Job.id.in_(ids), Job.deleted_at.is_(None), jobs.IS_TRANSCRIPTION)
    if after is not None:
        found = found.where(tuple_(Job.created_at, Job.id) < after)
    try:
        return session.scalars(found.order_by(*jobs.NEWEST).limit(limit)).all()
    except OperationalError as error:
        if isinstance(error.orig, QueryCanceled):
            raise TooBroad from error
        raise


def _until(recordings: Select[uuid.UUID], after: tuple[datetime, uuid.UUID] | None) -> Select[uuid.UUID]:
    return recordings if after is None else recordings.where(Job.created_at <= after[0])


def _exact(session: Session, query: Query, filters: Filters, part: Part) -> Sequence[Place]:
    """The newest matches."""
    recordings = _Recordings(session, part)

    def read(through: Sequence[uuid.UUID]) -> Sequence[Place]:
        columns = [getattr(Passage, name) for name in READ]
        passages = select(*columns).where(_in(Passage.job_id, through)).subquery()
        return _ranked(session, passages, query, filters, part)

    near = through = recordings.newest(NEAR_CHUNKS)
    places = read(near)
    if len(places) < MOST_RANKED and (far := _enough(NEAR_CHUNKS, places)) <= FAR_CHUNKS:
        through = recordings.newest(far)
        places = read(through)
    if len(places) == MOST_RANKED:
        return places
    known = recordings.all()
    if through == known:
        return places
    last = _last_number(session, near)
    count = NEAR_ERAS
    while True:
        eras = _eras(last, count)
        having = _having(session, query, filters, part, known, eras)
        found = _ranked(session, having, query, filters, part)
        # of those that were read through, what was corrected lately is in none of these eras
        both = _newest([*places, *found])
        if eras is None or len(both) == MOST_RANKED:
            return both
        count = _enough(count, found) if count == NEAR_ERAS else sys.maxsize


def _newest(places: Sequence[Place]) -> Sequence[Place]:
    """As many as are ranked, of places that may be there twice."""
    once = {(place.job_id, place.index): place for place in places}.values()
    in_order = sorted(once, key=lambda place: (place.job_id.int, place.index))
    return sorted(in_order, key=lambda place: place.recorded_at, reverse=True)[:MOST_RANKED]


class _Recordings:
    """Those of a part that have passages, the newest first, looked up as far as they are needed."""

    def __init__(self, session: Session, part: Part) -> None:
        self._session, self._part = session, part
        # those that are queued or have failed would hide the others
        heard = part.recordings.where(exists().where(Passage.job_id == Job.id))
        self._heard = heard.add_columns(Job.chunks).order_by(Job.created_at.desc(), Job.id)
        self._read(MOST_RECORDINGS if part.some else min(FEW_RECORDINGS, MOST_RECORDINGS))

    def _read(self, most: int) -> None:
        self._most = most
        self._found = self._session.execute(self._heard.limit(most)).all()

    @property
    def _has_all(self) -> bool:
        return len(self._found) < self._most

    def newest(self, chunks: int) -> list[uuid.UUID]:
        """So many that they have this many chunks, as far as there are."""
        if self._most < MOST_RECORDINGS and not self._has_all and sum(count for _, count in self._found) < chunks:
            self._read(MOST_RECORDINGS)
        return having_chunks(self._found, chunks)

    def all(self) -> list[uuid.UUID] | None:
        """None if there are too many."""
        if self._most < MOST_RECORDINGS and not self._has_all:
            many = self._session.scalar(self._part.recordings.offset(MOST_RECORDINGS - 1).limit(1)) is not None
            if not many:
                self._read(MOST_RECORDINGS)
        return [job_id for job_id, _ in self._found] if self._has_all else None


def _last_number(session: Session, recordings: Sequence[uuid.UUID]) -> int:
    """Of the passages at the ends of these recordings."""
    given = func.unnest(literal(recordings, ARRAY(Uuid))).table_valued("job_id").render_derived("given")
    of_one = select(Passage.number).where(Passage.job_id == given.c.job_id).order_by(Passage.index.desc())
    last = of_one.limit(1).lateral("last")
    return session.scalar(select(func.max(last.c.number)).select_from(given).join(last, true())) or 0


def _enough(count: int, places: Sequence[Place]) -> int:
    """Where so many had these matches, how many should have enough: half as many again as if they were even."""
    return 3 * count * MOST_RANKED // (2 * len(places)) if places else sys.maxsize


def _mistyped(session: Session, query: Query, other: Query, filters: Filters, part: Part) -> Sequence[Place]:
    """The newest matches with other spellings alone."""
    having = _having(session, other, filters, part, most=MOST_GUESSED)
    return _ranked(session, having, other, filters, part, unlike=query)


def _in(
    job_id: ColumnElement[uuid.UUID] | InstrumentedAttribute[uuid.UUID], recordings: Sequence[uuid.UUID]
) -> ColumnElement[bool]:
    return job_id == any_(literal(recordings, ARRAY(Uuid)))


def _eras(last: int, count: int) -> list[int] | None:
    """So many fine eras up to this passage, or coarse ones that have them; None: all.

    With the one behind, for what was corrected since.
    """
    fine, coarse = last >> FINE, last >> COARSE
    if count > fine + 2:
        return None
    if count <= MOST_ERAS:
        return [fine + 1 - before for before in range(count)]
    count = (count >> (COARSE - FINE)) + 2
    return [-1 - (coarse + 1 - before) for before in range(count)] if count <= min(MOST_ERAS, coarse + 2) else None


def _having(
    session: Session,
    query: Query,
    filters: Filters,
    part: Part,
    known: Sequence[uuid.UUID] | None = None,
    eras: Sequence[int] | None = None,
    most: int | None = None,
) -> Subquery:
    """Passages with the words, in whatever order, of the recordings, and among those the known ones."""
    own = OWN.c
    words = _tsquery(query.needed(_mark(session)))
    found = select(*(own[name] for name in READ)).where(own.terms.bool_op("@@")(words))
    if eras is not None:
        found = found.where(own.eras.overlap(eras))
    if filters.language is not None:
        found = found.where(own.languages.overlap([filters.language]))
    if known is not None:
        return found.where(_in(own.job_id, known)).limit(MOST_READ).subquery()
    read = found.limit(most or MOST_READ).subquery()
    return select(read).where(read.c.job_id.in_(part.recordings)).subquery()


def _ranked(
    session: Session,
    passages: Subquery,
    query: Query,
    filters: Filters,
    part: Part,
    unlike: Query | None = None,
) -> Sequence[Place]:
    """The newest of the passages that match, and that do not match what they are to be unlike."""
    of = passages.c
    found = select(of.recorded_at, of.job_id, of["index"], of.terms).where(_matching(session, passages, query))
    if unlike is not None:
        found = found.where(~_matching(session, passages, unlike))
    if part.speaks is not None:
        found = found.where(part.speaks(passages))
    if filters.language is not None:
        found = found.where(of.language == filters.language)
    newest = found.order_by(of.recorded_at.desc(), of.job_id, of["index"]).limit(MOST_RANKED).subquery().c
    # 1: a long segment counts for less; one with other words is as good as any
    how_good = func.ts_rank_cd(newest.terms, _full(session, query), 1) if unlike is None else literal(0)
    ranked = select(cast(how_good, Numeric(8, 3)), newest.recorded_at, newest.job_id, newest["index"])
    return [Place(unlike is not None, *row) for row in session.execute(ranked)]


def _matching(session: Session, passages: Subquery, query: Query) -> ColumnElement[bool]:
    return passages.c.terms.bool_op("@@")(_full(session, query))


def _full(session: Session, query: Query) -> ColumnElement[Any]:
    return _tsquery(query.tsquery(_mark(session)))


def _tsquery(notation: str) -> ColumnElement[Any]:
    return cast(literal(notation), TSQUERY)


def _mark(session: Session) -> str:
    return mark(session.info["tenant"])
