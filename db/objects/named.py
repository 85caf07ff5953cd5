"""Which objects rows name: what a sweep keeps, and what has to be there after a restore."""

from __future__ import annotations

import uuid
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from db import live, uploads
from db.models import Chunk, Job, LivePiece, Step, StepKind, StepState, Upload, UploadPart

ROWS_AT_ONCE = 10_000


def of_job(session: Session, job: str, keys: Sequence[str]) -> tuple[set[str], str | None]:
    """The keys that a job's rows refer to, and the prefix of its transcript.

    Of ``keys``, those that uploads and live sessions refer to.

    Empty and None for a deleted job.
    """
    try:
        job_id = uuid.UUID(job)
    except ValueError:
        return set(), None
    pieces = uploads.counted(session, [key for key in keys if uploads.is_piece(key)])
    pieces |= live.counted(session, [key for key in keys if live.is_piece(key)])
    row = session.execute(
        select(Job.source_key, Job.peaks_key, Job.rendition_key, Job.transcript_prefix).where(Job.id == job_id)
    ).one_or_none()
    if row is None:
        return pieces, None
    chunks = session.scalars(select(Chunk.key).where(Chunk.job_id == job_id))
    diarizations = session.scalars(
        select(Step.result["key"].astext).where(Step.job_id == job_id, Step.kind == StepKind.DIARIZE)
    )
    named = row.source_key, row.peaks_key, row.rendition_key, *pieces, *chunks, *diarizations
    return set(filter(None, named)), row.transcript_prefix


def missing(session: Session, present: Sequence[str]) -> Iterator[str]:
    """Keys, and prefixes of transcripts, of all jobs that are not among ``present``, which is sorted.

    Nothing is missing of what was erased, is still to be fetched, or was put together since.
    """
    key: str
    for query in _named():
        for key in session.scalars(query.execution_options(yield_per=ROWS_AT_ONCE)):
            place = bisect_left(present, key)
            # what begins with a prefix stands where the prefix would
            found = present[place] if place < len(present) else ""
            if found != key and not (key.endswith("/") and found.startswith(key)):
                yield key


def _named() -> Iterator[Select[Any]]:
    """Each of one column that is a string."""
    fetched, heard = ~_unfetched(Job.id), (Job.deleted_at.is_(None), Job.audio_erased_at.is_(None))
    # one that has no bytes makes training data, or erases
    recorded = (*heard, Job.bytes > 0, fetched)
    yield select(Job.source_key).where(*recorded)
    yield select(Job.peaks_key).where(*recorded, Job.peaks_key.is_not(None))
    yield select(Job.rendition_key).where(*recorded, Job.rendition_key.is_not(None))
    yield select(Job.transcript_prefix).where(Job.deleted_at.is_(None), Job.transcript_prefix.is_not(None))
    yield select(Chunk.key).join(Job, Job.id == Chunk.job_id).where(*heard)
    diarization = Step.result["key"].astext
    diarized = Step.kind == StepKind.DIARIZE, diarization.is_not(None)
    yield select(diarization).join(Job, Job.id == Step.job_id).where(*heard, *diarized)
    # of an upload no job may have been made yet; once its step is done, its pieces are of no more use, and those
    # that the client writes itself are there only once it says so
    written = ~Upload.in_parts | Upload.completed_at.is_not(None)
    parts = select(UploadPart.key).join(Upload, Upload.id == UploadPart.upload_id)
    yield parts.where(written, ~_fetched(Upload.id))
    yield select(LivePiece.key).join(Job, Job.id == LivePiece.job_id).where(*heard, ~_fetched(LivePiece.job_id))


def _fetched(job_id: InstrumentedAttribute[uuid.UUID]) -> ColumnElement[bool]:
    step = aliased(Step)
    return exists().where(step.job_id == job_id, step.kind == StepKind.FETCH, step.state == StepState.DONE)


def _unfetched(job_id: InstrumentedAttribute[uuid.UUID]) -> ColumnElement[bool]:
    step = aliased(Step)
    return exists().where(step.job_id == job_id, step.kind == StepKind.FETCH, step.state != StepState.DONE)
