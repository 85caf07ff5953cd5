"""Hypotheses and segments: the text of a transcript."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import takewhile

from sqlalchemy import exists, func, select, tuple_
from sqlalchemy.orm import Session

from db.models import Chunk, Json, Role, Step, StepKind, StepState, StoredHypothesis, StoredSegment


def final_segments(session: Session, job_id: uuid.UUID) -> list[Json]:
    """Final segments in order, in their public shape."""
    rows = session.scalars(
        select(StoredSegment)
        .where(StoredSegment.job_id == job_id)
        # by start: channels that were transcribed separately are merged in time
        .order_by(StoredSegment.start, StoredSegment.index)
    )
    return [row.to_json() for row in rows]


def touched_chunks(session: Session, job_id: uuid.UUID) -> Sequence[int]:
    """Chunks in which a person has changed a segment."""
    touched = StoredSegment.job_id == job_id, StoredSegment.machine.is_not(None)
    return session.scalars(select(StoredSegment.chunk).where(*touched).distinct()).all()


def next_index(session: Session, segment: StoredSegment) -> int | None:
    """The index of the final segment that follows in time."""
    place = tuple_(StoredSegment.start, StoredSegment.index)
    return session.scalar(
        select(StoredSegment.index)
        .where(StoredSegment.job_id == segment.job_id, place > (segment.start, segment.index))
        .order_by(StoredSegment.start, StoredSegment.index)
        .limit(1)
    )


def last_index(session: Session, job_id: uuid.UUID, chunk: int) -> int:
    """The highest index of a chunk that has segments."""
    of_chunk = StoredSegment.job_id == job_id, StoredSegment.chunk == chunk
    return session.scalars(select(func.max(StoredSegment.index)).where(*of_chunk)).one()


def aligned_chunks(session: Session, job_id: uuid.UUID) -> set[int]:
    """Chunks whose segments are final, if they have any."""
    is_final = Step.kind == StepKind.ALIGN, Step.state == StepState.DONE
    chunks = session.scalars(select(Step.chunk).where(Step.job_id == job_id, *is_final))
    return {chunk for chunk in chunks if chunk is not None}


def aligned_segments(session: Session, job_id: uuid.UUID, first: int) -> tuple[int, list[Json]]:
    """The final segments from chunk ``first`` up to the first that is not final, and its number."""
    is_final = exists().where(
        Step.job_id == Chunk.job_id,
        Step.chunk == Chunk.index,
        Step.kind == StepKind.ALIGN,
        Step.state == StepState.DONE,
    )
    indexes = session.execute(
        select(Chunk.index, is_final).where(Chunk.job_id == job_id, Chunk.index >= first).order_by(Chunk.index)
    )
    # the numbers of chunks have no gaps
    end = first + sum(1 for _ in takewhile(lambda row: row[1], indexes))
    rows = session.scalars(
        select(StoredSegment)
        .where(StoredSegment.job_id == job_id, StoredSegment.chunk >= first, StoredSegment.chunk < end)
        .order_by(StoredSegment.start, StoredSegment.index)
    )
    return end, [row.to_json() for row in rows]


def signals(session: Session, job_id: uuid.UUID) -> dict[int, dict[Role, Mapping[str, float]]]:
    """What the engines measured in each chunk (``speech.text.words.Hypothesis.signals``)."""
    found: defaultdict[int, dict[Role, Mapping[str, float]]] = defaultdict(dict)
    rows = session.execute(
        select(StoredHypothesis.chunk, StoredHypothesis.role, StoredHypothesis.content["signals"]).where(
            StoredHypothesis.job_id == job_id
        )
    )
    for chunk, role, measured in rows:
        found[chunk][role] = measured
    return found


def chunk_starts(session: Session, job_id: uuid.UUID) -> dict[int, float]:
    """Seconds at which each chunk begins."""
    rows = session.execute(select(Chunk.index, Chunk.start).where(Chunk.job_id == job_id))
    return {index: start for index, start in rows}


def hypotheses(
    session: Session, chunks: Collection[tuple[uuid.UUID, int]], *roles: Role
) -> dict[tuple[uuid.UUID, int, Role], Json]:
    """What engines in these roles made of some chunks of some jobs, as far as they have."""
    rows = session.execute(
        select(StoredHypothesis.job_id, StoredHypothesis.chunk, StoredHypothesis.role, StoredHypothesis.content)
        .where(tuple_(StoredHypothesis.job_id, StoredHypothesis.chunk).in_(chunks))
        .where(StoredHypothesis.role.in_(roles))
    )
    return {(row.job_id, row.chunk, row.role): row.content for row in rows}


def sealed_originals(session: Session, job_id: uuid.UUID) -> list[tuple[int, Role, bytes]]:
    """What redaction took out of hypotheses, by chunk and role, where that is kept."""
    rows = session.execute(
        select(StoredHypothesis.chunk, StoredHypothesis.role, StoredHypothesis.original).where(
            StoredHypothesis.job_id == job_id, StoredHypothesis.original.is_not(None)
        )
    )
    return [(chunk, role, original) for chunk, role, original in rows if original is not None]


def spoken_language(session: Session, job_id: uuid.UUID) -> str | None:
    """The language of most of the final text."""
    length = func.sum(func.length(StoredSegment.text))
    return session.scalar(
        select(StoredSegment.language)
        .where(StoredSegment.job_id == job_id, StoredSegment.language.is_not(None))
        .group_by(StoredSegment.language)
        .order_by(length.desc(), StoredSegment.language)
        .limit(1)
    )
