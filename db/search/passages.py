"""Keeping what search finds as the transcript is: whoever changes segments calls one of these."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy import Integer, Text, Uuid, cast, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from db.models import Job, Json, Passage, StepKind, StoredSegment
from db.queue import leases
from db.search.lexemes import vector


def put(session: Session, found: Sequence[tuple[Job, Mapping[int, Iterable[Json]]]]) -> None:
    """Make these segments, in their public shape, all that is found of these chunks of some jobs."""
    jobs = cast([job.id for job, chunks in found for _ in chunks], ARRAY(Uuid))
    numbers = cast([chunk for _, chunks in found for chunk in chunks], ARRAY(Integer))
    given = func.unnest(jobs, numbers).table_valued("job_id", "chunk").render_derived("given")
    rows = [passage(job, segment) for job, chunks in found for segments in chunks.values() for segment in segments]
    # what else has changed is written once, at the end
    with session.no_autoflush:
        session.execute(
            delete(Passage)
            .where(Passage.job_id == given.c.job_id, Passage.chunk == given.c.chunk)
            .execution_options(synchronize_session=False)
        )
        if rows:
            # nulls too: rows of other columns would be another statement
            session.execute(insert(Passage).execution_options(render_nulls=True), rows)


def refresh(session: Session, job: Job, chunks: Collection[int]) -> None:
    """Have the final segments of the chunks found as they are stored."""
    if not chunks:
        return
    found: defaultdict[int, list[Json]] = defaultdict(list, {chunk: [] for chunk in chunks})
    stored = select(StoredSegment).where(StoredSegment.job_id == job.id, StoredSegment.chunk.in_(chunks))
    for segment in session.scalars(stored):
        found[segment.chunk].append(segment.to_json())
    put(session, [(job, found)])
    leases.begin_again(session, job.id, StepKind.INDEX)


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
