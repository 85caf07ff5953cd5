"""What search finds, by words and by meaning, after final segments have changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Job, Json, StoredSegment
from db.search import meanings, passages


def refresh(session: Session, job: Job, chunks: Collection[int], *, soon: bool = True) -> None:
    """Have the final segments of the chunks found as they are stored; by meaning ``soon``, or in its turn."""
    if not chunks:
        return
    found: defaultdict[int, list[Json]] = defaultdict(list, {chunk: [] for chunk in chunks})
    stored = select(StoredSegment).where(StoredSegment.job_id == job.id, StoredSegment.chunk.in_(chunks))
    for segment in session.scalars(stored):
        found[segment.chunk].append(segment.to_json())
    passages.put(session, [(job, found)])
    meanings.read_again(session, job.id, soon=soon)
