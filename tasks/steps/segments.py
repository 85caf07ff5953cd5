"""Final segments: storing them, and labelling them with speakers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from sqlalchemy import delete, select

from db import transcripts
from db.models import SegmentSource, StoredSegment
from db.queue.transaction import JobTransaction
from db.search import passages
from speech.speakers.labels import label_segments, speaker_of
from speech.text.words import Segment, Turn


def relabel_segments(tx: JobTransaction, turns: Sequence[Turn]) -> list[Segment]:
    """Label the segments that are final already, and return them. Later ones are labelled by `align`."""
    segments = [Segment.from_json(data) for data in transcripts.final_segments(tx.session, tx.job.id)]
    touched = set(transcripts.touched_chunks(tx.session, tx.job.id))
    version = tx.job.event_seq + 1
    kept = _label_touched(tx, touched, turns, version)
    labelled: list[Segment] = []
    for chunk in dict.fromkeys(segment.chunk for segment in segments):
        if chunk not in touched:
            mine = [segment for segment in segments if segment.chunk == chunk]
            labelled += [replace(one, version=version) for one in label_segments(mine, turns)]
    chunks = {segment.chunk for segment in labelled}
    tx.session.execute(
        delete(StoredSegment).where(StoredSegment.job_id == tx.job.id, StoredSegment.chunk.in_(chunks))
    )
    store_segments(tx, labelled)
    passages.refresh(tx.session, tx.job, chunks | touched)
    return labelled + kept


def _label_touched(
    tx: JobTransaction, chunks: Collection[int], turns: Sequence[Turn], version: int
) -> list[Segment]:
    """Say who is heard in chunks that people edit: nothing is divided there, and names that were typed in stay."""
    ordered = sorted(turns, key=lambda turn: turn.start)
    rows = tx.session.scalars(
        select(StoredSegment)
        .where(StoredSegment.job_id == tx.job.id, StoredSegment.chunk.in_(chunks))
        .order_by(StoredSegment.start, StoredSegment.index)
    ).all()
    for row in rows:
        heard = speaker_of(row.start, row.end, ordered)
        row.speaker = row.speaker or heard
        if row.machine is not None:
            row.machine = row.machine | {"speaker": row.machine["speaker"] or heard}
        row.version = version
    return [Segment.from_json(row.to_json()) for row in rows]


def store_segments(tx: JobTransaction, segments: Sequence[Segment]) -> None:
    tx.session.add_all(
        StoredSegment(**{**segment.to_json(), "job_id": tx.job.id, "source": SegmentSource(segment.source)})
        for segment in segments
    )
    tx.session.flush()
