"""Keeping what search finds as the transcript is: whoever changes segments calls one of these."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from sqlalchemy import Integer, Text, cast, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from db.models import Job, Json, Passage, StoredSegment
from db.search import meanings
from db.search.lexemes import vector


def put(session: Session, job: Job, chunks: Collection[int], segments: Iterable[Json]) -> None:
    """Make these segments, in their public shape, all that is found of the chunks."""
    session.execute(delete(Passage).where(Passage.job_id == job.id, Passage.chunk.in_(chunks)))
    rows = [passage(job, segment) for segment in segments]
    if rows:
        session.execute(insert(Passage), rows)


def refresh(session: Session, job: Job, chunks: Collection[int], *, soon: bool = True) -> None:
    """Have the final segments of the chunks found as they are stored; by meaning ``soon``, or in its turn."""
    stored = session.scalars(
        select(StoredSegment).where(StoredSegment.job_id == job.id, StoredSegment.chunk.in_(chunks))
    )
    put(session, job, chunks, [segment.to_json() for segment in stored])
    meanings.read_again(session, job.id, soon=soon)


def name_speakers(session: Session, job: Job, speakers: Mapping[int, str | None]) -> None:
    """Of segments that are found already, by their index."""
    indexes, names = cast(list(speakers), ARRAY(Integer)), cast(list(speakers.values()), ARRAY(Text))
    given = func.unnest(indexes, names).table_valued("index", "speaker").render_derived("given")
    session.execute(
        update(Passage)
        .where(Passage.job_id == job.id, Passage.index == given.c.index)
        .values(speaker=given.c.speaker)
        .execution_options(synchronize_session=False)
    )


def passage(job: Job, segment: Json) -> Json:
    """The row of a segment."""
    names = "index", "chunk", "start", "end", "text", "speaker", "language"
    return {name: segment[name] for name in names} | {
        "job_id": job.id,
        "tenant": job.tenant,
        "recorded_at": job.created_at,
        "provisional": segment.get("provisional", False),
        "terms": vector(segment["text"], job.tenant),
    }
