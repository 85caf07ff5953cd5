"""What finished transcripts mean: a vector of each final segment, where semantic search is wanted.

Its type is pgvector's, which a server may not have: the table is no part of the schema, but made by ``db.prepare``
where it is wanted, and can be made anew from the passages at any time. Its rows go with their passages.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    Connection,
    Float,
    Numeric,
    Select,
    Uuid,
    any_,
    cast,
    column,
    create_engine,
    delete,
    exists,
    func,
    literal,
    or_,
    pool,
    select,
    table,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import NotSupportedError, ProgrammingError
from sqlalchemy.orm import Session
from sqlalchemy.types import Integer, Text, UserDefinedType

from db import jobs
from db.models import Job, JobStatus, Passage, Step, StepKind, StepState
from db.queue import retry
from db.search.filters import BY_INDEX, Filters, Part, configure, having_chunks, parts_of
from db.search.hits import Hit, Place, complete, page
from db.settings import get_settings

logger = logging.getLogger(__name__)

DIMENSIONS = 384

LANGUAGES = ("en",)
"""Of the segments that have a vector: those that the model knows. One whose language is not known has one, too."""

LEAST_ALIKE = Decimal("0.25")
"""Cosine of two texts from which they have something in common."""

MOST_NEAR = 200
"""Hits of a search, over all its pages."""

EXACT_CHUNKS = 5000
"""Where there are fewer, each of their segments is compared. In more, the index finds the nearest; where it finds
too few, those of the newest recordings are compared that have so many."""

SETTLED = timedelta(seconds=10)
"""After the last of several corrections, the transcript is read again."""

REVIVED = timedelta(days=1)
"""After which a transcript whose reading failed is tried again."""

CREATE_EXTENSION = "CREATE EXTENSION IF NOT EXISTS vector"
VERSION = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
OLDEST = 0, 8
"""Earlier ones look for the nearest first, and whose they are then: where few are the tenant's, none is found."""

CREATE = (
    f"""
    CREATE TABLE meanings (
        job_id uuid, index integer, tenant text NOT NULL, vector halfvec({DIMENSIONS}) NOT NULL,
        PRIMARY KEY (job_id, index),
        FOREIGN KEY (job_id, index) REFERENCES passages (job_id, index) ON DELETE CASCADE)
    """,
    # of vectors of length 1 the inner product is the cosine
    "CREATE INDEX ix_meanings_vector ON meanings USING hnsw (vector halfvec_ip_ops)",
    "ALTER TABLE meanings ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY tenant ON meanings USING (tenant = current_setting('longhand.tenant', true))",
    # what was read before is not in it
    "DELETE FROM steps WHERE kind = 'index'",
)

LOCK = 0x10A6_4A9F
"""Key of the advisory lock: an arbitrary constant."""

NEAREST = BY_INDEX | {
    "hnsw.ef_search": "200",
    "hnsw.iterative_scan": "relaxed_order",
    "hnsw.max_scan_tuples": "20000",
}
"""A scan of the index ends before its rows do where its memory, that of a sort, is full."""

SORTING = "enable_sort", "enable_hashjoin", "enable_mergejoin"
"""The planner takes the order of the index for dearer than it is."""

Vector = Sequence[float]
"""Of length 1."""


class _HalfVector(UserDefinedType[str]):
    """pgvector's numbers of half precision, in its notation."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return f"halfvec({DIMENSIONS})"


MEANINGS = table(
    "meanings",
    *(column(name, kind) for name, kind in (("job_id", Uuid), ("index", Integer), ("tenant", Text))),
    column("vector", _HalfVector),
)


@dataclass(frozen=True, slots=True)
class Unread:
    """A segment that has no vector yet."""

    index: int
    number: int
    """Of its passage. Once the segment is corrected, that is another one."""
    text: str


def create(database_url: str) -> None:
    """Make the table, unless it is there. That pgvector cannot be had is logged: nothing else misses it."""
    engine = create_engine(database_url, poolclass=pool.NullPool)
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            if not are_kept(connection):
                _create(connection)
    except (NotSupportedError, ProgrammingError) as error:
        logger.error("there is no search by meaning, since PostgreSQL gives no pgvector: %s", error.orig)


def _create(connection: Connection) -> None:
    connection.execute(text(CREATE_EXTENSION))
    version = str(connection.scalar(text(VERSION)))
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        logger.error("there is no search by meaning, since pgvector is %s: it has to be 0.8 or newer", version)
        return
    for statement in CREATE:
        connection.execute(text(statement))


def are_kept(connection: Connection | Session) -> bool:
    """Whether there is the table."""
    return connection.scalar(text("SELECT to_regclass('meanings')")) is not None


def are_wanted(session: Session) -> bool:
    """Whether transcripts are to be read: where operators want it, and there is the table."""
    # what a transaction has changed is written once, at the end
    with session.no_autoflush:
        return get_settings().semantic_search and are_kept(session)


def read_again(session: Session, job_id: uuid.UUID, *, soon: bool) -> None:
    """Have a transcript whose passages have changed read again, if it was read: soon, or when the upkeep comes
    to it."""
    if soon and are_wanted(session):
        retry.begin_again(session, job_id, StepKind.INDEX, delay=SETTLED)
    else:
        session.execute(delete(Step).where(Step.job_id == job_id, Step.kind == StepKind.INDEX))


def unread(session: Session, job_id: uuid.UUID) -> list[Unread]:
    """The final segments of a job that have no vector, and are in a language that the model knows."""
    of = MEANINGS.c
    read = exists().where(of.job_id == Passage.job_id, of.index == Passage.index)
    found = select(Passage.index, Passage.number, Passage.text).where(
        Passage.job_id == job_id,
        ~Passage.provisional,
        or_(Passage.language.in_(LANGUAGES), Passage.language.is_(None)),
        ~read,
    )
    return [Unread(*row) for row in session.execute(found)]


PUT = text(f"""
    INSERT INTO meanings (job_id, index, tenant, vector)
    SELECT p.job_id, p.index, p.tenant, CAST(read.vector AS halfvec({DIMENSIONS}))
    FROM unnest(CAST(:indexes AS int[]), CAST(:numbers AS bigint[]), CAST(:vectors AS text[]))
        AS read (index, number, vector)
    JOIN passages p ON p.job_id = :job AND p.index = read.index AND p.number = read.number
    ON CONFLICT DO NOTHING
""")  # noqa: S608


def put(session: Session, job_id: uuid.UUID, segments: Sequence[Unread], vectors: Sequence[Vector]) -> None:
    """Keep the vectors of those that are still as they were read. The job's row must be locked."""
    values = {
        "job": job_id,
        "indexes": [segment.index for segment in segments],
        "numbers": [segment.number for segment in segments],
        "vectors": list(map(_notation, vectors)),
    }
    session.execute(PUT, values)


def _notation(vector: Vector) -> str:
    return f"[{','.join(f'{value:.5f}' for value in vector)}]"


def jobs_to_read(session: Session, most_open: int) -> Sequence[uuid.UUID]:
    """Finished transcripts that nobody has read, the newest first: so many that no more are being read."""
    steps = select(Step.id).where(Step.kind == StepKind.INDEX, Step.state.in_((StepState.READY, StepState.LEASED)))
    being_read = session.scalar(select(func.count()).select_from(steps.limit(most_open).subquery())) or 0
    again = (Step.state == StepState.DEAD) & (Step.finished_at < func.now() - REVIVED)
    seen = exists().where(Step.job_id == Job.id, Step.kind == StepKind.INDEX, ~again)
    done = Job.status == JobStatus.COMPLETED, Job.deleted_at.is_(None), jobs.IS_TRANSCRIPTION
    found = select(Job.id).where(*done, ~seen).order_by(*jobs.NEWEST)
    return session.scalars(found.limit(most_open - being_read)).all()


def find(
    session: Session, meaning: Vector, filters: Filters, *, limit: int, after: Place | None = None
) -> list[Hit]:
    """Up to ``limit`` segments behind ``after`` that mean much the same, the closest first, in a session of the
    tenant."""
    configure(session, NEAREST)
    places = [place for part in parts_of(session, filters) for place in _nearest(session, meaning, filters, part)]
    return complete(session, page(places, after, limit), lambda place, text: ())


def _nearest(session: Session, meaning: Vector, filters: Filters, part: Part) -> list[Place]:
    """Those of a part. The index of all tenants' vectors may find few where others speak of much the same."""
    chunks = session.execute(
        part.recordings.where(Job.chunks > 0)
        .add_columns(Job.chunks)
        .order_by(Job.created_at.desc(), Job.id)
        .limit(EXACT_CHUNKS)
    ).all()
    places: dict[tuple[uuid.UUID, int], Place] = {}
    if sum(count for _, count in chunks) >= EXACT_CHUNKS:
        # the order of the index itself
        configure(session, dict.fromkeys(SORTING, "off"))
        places = _alike(session, meaning, filters, part)
    if len(places) < MOST_NEAR:
        newest = having_chunks(chunks, EXACT_CHUNKS)
        configure(session, dict.fromkeys(SORTING, "on"))
        places |= _alike(session, meaning, filters, part, newest)
    return [place for place in places.values() if place.rank >= LEAST_ALIKE]


def _alike(
    session: Session, meaning: Vector, filters: Filters, part: Part, among: Sequence[uuid.UUID] | None = None
) -> dict[tuple[uuid.UUID, int], Place]:
    """The nearest segments of the part, by the index; or of these of its recordings, by comparing each."""
    of = MEANINGS.c
    # negative, as indexes know ascending order alone
    distance = of.vector.op("<#>", return_type=Float())(cast(literal(_notation(meaning)), _HalfVector()))
    found: Select[tuple[uuid.UUID, int, float]] = select(of.job_id, of.index, distance.label("distance"))
    if among is None:
        found = found.where(of.job_id.in_(part.recordings))
    else:
        found = found.where(of.job_id == any_(literal(among, ARRAY(Uuid))))
    if part.speaks is not None or filters.language is not None:
        said = select(Passage.job_id, Passage.index, Passage.speaker, Passage.language).subquery()
        found = found.join(said, (said.c.job_id == of.job_id) & (said.c.index == of.index))
        if part.speaks is not None:
            found = found.where(part.speaks(said))
        if filters.language is not None:
            found = found.where(said.c.language == filters.language)
    # no index knows the sum
    found = found.order_by(distance if among is None else distance + 0)
    nearest = found.limit(MOST_NEAR).subquery().c
    places = select(
        cast(-nearest.distance, Numeric(8, 3)), Passage.recorded_at, nearest.job_id, nearest.index
    ).where(Passage.job_id == nearest.job_id, Passage.index == nearest.index)
    return {
        (job_id, index): Place(False, rank, at, job_id, index)
        for rank, at, job_id, index in session.execute(places)
    }
