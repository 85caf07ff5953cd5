"""Final segments: storing them, and labelling them with speakers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from sqlalchemy import Integer, Text, any_, cast, delete, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from db import transcripts
from db.models import SegmentSource, StoredSegment
from db.queue.transaction import JobTransaction
from db.search import passages
from db.search.refresh import refresh
from speech.speakers.labels import label_segments, speaker_of, turns_near
from speech.text.words import Segment, Turn


def relabel_segments(tx: JobTransaction, turns: Sequence[Turn]) -> list[Segment]:
    """Label the segments that are final already, and return them. Later ones are labelled by `align`."""
    ordered = sorted(turns, key=lambda turn: turn.start)
    touched = set(transcripts.touched_chunks(tx.session, tx.job.id))
    version = tx.job.event_seq + 1
    kept = _label_touched(tx, touched, ordered, version)
    chunks: dict[int, list[Segment]] = {}
    for data in transcripts.final_segments(tx.session, tx.job.id):
        if data["chunk"] not in touched:
            chunks.setdefault(data["chunk"], []).append(Segment.from_json(data))
    labelled: list[Segment] = []
    whole: list[Segment] = []
    divided: list[Segment] = []
    for segments in chunks.values():
        near = turns_near(segments[0].start, max(segment.end for segment in segments), ordered)
        parts = [replace(part, version=version) for part in label_segments(segments, near)]
        labelled += parts
        (divided if len(parts) > len(segments) else whole).extend(parts)
    _replace_chunks(tx, divided)
    _name_speakers(tx, whole, version)
    refresh(tx.session, tx.job, touched | {segment.chunk for segment in divided})
    return labelled + kept


def _replace_chunks(tx: JobTransaction, segments: Sequence[Segment]) -> None:
    chunks = cast(list({segment.chunk for segment in segments}), ARRAY(Integer))
    tx.session.execute(
        delete(StoredSegment)
        .where(StoredSegment.job_id == tx.job.id, StoredSegment.chunk == any_(chunks))
        .execution_options(synchronize_session=False)
    )
    store_segments(tx, segments)


def _name_speakers(tx: JobTransaction, segments: Sequence[Segment], version: int) -> None:
    """One statement without the words, which are most of a long recording's rows."""
    indexes = cast([segment.index for segment in segments], ARRAY(Integer))
    speakers = cast([segment.speaker for segment in segments], ARRAY(Text))
    given = func.unnest(indexes, speakers).table_valued("index", "speaker").render_derived("given")
    tx.session.execute(
        update(StoredSegment)
        .where(StoredSegment.job_id == tx.job.id, StoredSegment.index == given.c.index)
        .values(speaker=given.c.speaker, version=version)
        .execution_options(synchronize_session=False)
    )
    passages.name_speakers(tx.session, tx.job, {segment.index: segment.speaker for segment in segments})


def _label_touched(
    tx: JobTransaction, chunks: Collection[int], turns: Sequence[Turn], version: int
) -> list[Segment]:
    """Say who is heard in chunks that people edit: nothing is divided there, and names that were typed in stay."""
    rows = tx.session.scalars(
        select(StoredSegment)
        .where(StoredSegment.job_id == tx.job.id, StoredSegment.chunk.in_(chunks))
        .order_by(StoredSegment.start, StoredSegment.index)
    ).all()
    for row in rows:
        heard = speaker_of(row.start, row.end, turns)
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
