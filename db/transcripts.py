"""Hypotheses and segments: the text of a transcript."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Mapping
from itertools import takewhile

from sqlalchemy import exists, func, select
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


def hypothesis(session: Session, job_id: uuid.UUID, chunk: int, role: Role) -> Json | None:
    return session.scalar(
        select(StoredHypothesis.content).where(
            StoredHypothesis.job_id == job_id, StoredHypothesis.chunk == chunk, StoredHypothesis.role == role
        )
    )


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
