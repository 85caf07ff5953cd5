"""Final segments: storing them, and labelling them with speakers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import delete

from db import transcripts
from db.models import SegmentSource, StoredSegment
from db.queue.transaction import JobTransaction
from speech.speakers.labels import label_segments
from speech.text.words import Segment, Turn


def relabel_segments(tx: JobTransaction, turns: Sequence[Turn]) -> list[Segment]:
    """Label the segments that are final already, and return them. Later ones are labelled by `align`."""
    segments = [Segment.from_json(data) for data in transcripts.final_segments(tx.session, tx.job.id)]
    touched = set(transcripts.touched_chunks(tx.session, tx.job.id))
    version = tx.job.event_seq + 1
    labelled: list[Segment] = []
    for chunk in dict.fromkeys(segment.chunk for segment in segments):
        mine = [segment for segment in segments if segment.chunk == chunk]
        if chunk in touched:
            continue  # a person is editing this chunk: its segments stay as they are
        labelled += [replace(one, version=version) for one in label_segments(mine, turns)]
    chunks = {segment.chunk for segment in labelled}
    tx.session.execute(
        delete(StoredSegment).where(StoredSegment.job_id == tx.job.id, StoredSegment.chunk.in_(chunks))
    )
    store_segments(tx, labelled)
    return labelled


def store_segments(tx: JobTransaction, segments: Sequence[Segment]) -> None:
    tx.session.add_all(
        StoredSegment(**{**segment.to_json(), "job_id": tx.job.id, "source": SegmentSource(segment.source)})
        for segment in segments
    )
    tx.session.flush()
