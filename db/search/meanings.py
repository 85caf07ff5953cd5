"""What finished transcripts mean: a vector of each final segment, where semantic search is wanted.

Its type is pgvector's, which a server may not have: the table is no part of the schema, but made by ``db.prepare``
where it is wanted, and can be made anew from the passages at any time. Its rows go with their passages.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    Float,
    Numeric,
    Select,
    Uuid,
    cast,
    column,
    create_engine,
    exists,
    func,
    literal,
    or_,
    pool,
    select,
    table,
    text,
)
from sqlalchemy.exc import NotSupportedError, ProgrammingError
from sqlalchemy.orm import Session
from sqlalchemy.types import Integer, Text, UserDefinedType

from db import jobs
from db.models import Job, JobStatus, Passage, Step, StepKind, StepState
from db.search.filters import Filters, Part, parts_of
from db.search.hits import Hit, Place, complete, page

logger = logging.getLogger(__name__)

DIMENSIONS = 384

LANGUAGES = ("en",)
"""Of the segments that have a vector: those that the model knows. One whose language is not known has one, too."""

LEAST_ALIKE = 0.25
"""Cosine of two texts from which they have something in common."""

MOST_NEAR = 200
"""Hits of a search, over all its pages."""

EXACT_CHUNKS = 5000
"""Where there are fewer, each of their segments is compared; in more, the index finds the nearest."""

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

BY_INDEX = text(
    "SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('hnsw.ef_search', '200', true), "
    "set_config('hnsw.max_scan_tuples', '20000', true), set_config('enable_sort', 'off', true), "
    "set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)"
)
"""The planner takes the order of the index for dearer than it is."""

IN_TIME = text(
    "SELECT set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true), "
    "set_config('max_parallel_workers_per_gather', '0', true), set_config('statement_timeout', '5s', true)"
)

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
            if not _exists(connection):
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


def _exists(connection: Connection | Session) -> bool:
    return connection.scalar(text("SELECT to_regclass('meanings')")) is not None


def are_kept(session: Session) -> bool:
    """Whether there is the table."""
    return _exists(session)


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


def jobs_to_read(session: Session, limit: int) -> Sequence[uuid.UUID]:
    """Finished transcripts that nobody reads or has read, the newest first."""
    seen = exists().where(
        Step.job_id == Job.id, Step.kind == StepKind.INDEX, Step.state.not_in((StepState.DEAD, StepState.SKIPPED))
    )
    done = Job.status == JobStatus.COMPLETED, Job.deleted_at.is_(None), jobs.IS_TRANSCRIPTION
    return session.scalars(select(Job.id).where(*done, ~seen).order_by(*jobs.NEWEST).limit(limit)).all()


def find(
    session: Session, meaning: Vector, filters: Filters, *, limit: int, after: Place | None = None
) -> list[Hit]:
    """Up to ``limit`` segments behind ``after`` that mean much the same, the closest first, in a session of the
    tenant."""
    session.execute(IN_TIME)
    places = [place for part in parts_of(session, filters) for place in _nearest(session, meaning, filters, part)]
    return complete(session, page(places, after, limit), lambda place, text: ())


def _nearest(session: Session, meaning: Vector, filters: Filters, part: Part) -> list[Place]:
    chunks = part.recordings.with_only_columns(Job.chunks).limit(EXACT_CHUNKS).subquery().c
    few = (session.scalar(select(func.sum(chunks.chunks))) or 0) < EXACT_CHUNKS
    of = MEANINGS.c
    # negative, as indexes know ascending order alone
    distance = of.vector.op("<#>", return_type=Float())(cast(literal(_notation(meaning)), _HalfVector()))
    found: Select[tuple[uuid.UUID, int, float]] = select(of.job_id, of.index, distance.label("distance"))
    found = found.where(of.job_id.in_(part.recordings))
    if part.speaks is not None or filters.language is not None:
        said = select(Passage.job_id, Passage.index, Passage.speaker, Passage.language).subquery()
        found = found.join(said, (said.c.job_id == of.job_id) & (said.c.index == of.index))
        if part.speaks is not None:
            found = found.where(part.speaks(said))
        if filters.language is not None:
            found = found.where(said.c.language == filters.language)
    if not few:
        session.execute(BY_INDEX)
    # no index knows the sum
    found = found.order_by(distance + 0 if few else distance)
    nearest = found.limit(MOST_NEAR).subquery().c
    places = select(
        cast(-nearest.distance, Numeric(8, 3)), Passage.recorded_at, nearest.job_id, nearest.index
    ).where(Passage.job_id == nearest.job_id, Passage.index == nearest.index, nearest.distance <= -LEAST_ALIKE)
    return [Place(False, *row) for row in session.execute(places)]
