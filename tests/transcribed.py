"""A finished job with a transcript, without anything having been transcribed."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from db.models import Chunk, JobStatus, SegmentSource, StoredSegment, StoredSpeaker
from db.queue.transaction import job_transaction
from db.session import Sessions
from speech.text.retiming import retime
from speech.text.words import SEGMENTS_PER_CHUNK
from tests.jobs import make_job

SECONDS = 6.0
"""Of each segment."""


def transcribed(sessions: Sessions, texts: Sequence[str], **values: Any) -> uuid.UUID:
    """One segment for each text, of two speakers in turn, five to a chunk."""
    job_id = make_job(sessions, **values)
    with job_transaction(sessions, job_id) as tx:
        tx.skip_open_steps()
        tx.session.add_all(
            Chunk(job_id=job_id, index=chunk, start=chunk * 30.0, end=chunk * 30.0 + 30, key=f"c{chunk}")
            for chunk in range((len(texts) + 4) // 5)
        )
        tx.session.add_all(
            StoredSpeaker(job_id=job_id, label=f"SPEAKER_0{number}", vector=[], name=name)
            for number, name in enumerate(("Ada", None))
        )
        tx.session.flush()
        for place, said in enumerate(texts):
            start = place * SECONDS
            words = retime((), said, start, start + SECONDS) if len(texts) < 100 else ()
            tx.session.add(
                StoredSegment(
                    job_id=job_id,
                    index=place // 5 * SEGMENTS_PER_CHUNK + place % 5,
                    chunk=place // 5,
                    start=start,
                    end=start + SECONDS,
                    text=said,
                    speaker=f"SPEAKER_0{place % 2}",
                    language="en",
                    confidence=0.9,
                    source=SegmentSource.REFINED,
                    words=[word.to_json() for word in words],
                )
            )
        tx.job.status, tx.job.language, tx.job.ingested = JobStatus.COMPLETED, "en", True
        tx.job.transcript_prefix, tx.job.duration = f"jobs/{job_id}/transcript/0/", len(texts) * SECONDS
    return job_id
