"""A recording of ten hours as it is when it is done: 5,000 segments, 90,000 words, turns, and a waveform."""

from __future__ import annotations

import random
import uuid

from sqlalchemy import insert

from db.models import Chunk, Job, JobStatus, SegmentSource, StoredSegment, StoredSpeaker, StoredTurn
from db.objects.storage import Storage
from db.queue.transaction import job_transaction
from db.session import Sessions
from tests.jobs import make_job

SECONDS = 36_000.0
SEGMENTS, WORDS = 5_000, 18
SPEAKERS = ("SPEAKER_00", "SPEAKER_01", "SPEAKER_02")
VOCABULARY = (
    *("we", "the", "of", "and", "to", "in", "that", "they", "was", "it", "with", "as", "for", "on", "his", "be"),
    *("by", "had", "not", "are", "but", "from", "or", "have", "an", "which", "one", "river", "harvest", "council"),
    *("evening", "question", "remember", "mountain", "because", "children", "village", "winter", "through"),
    *("morning", "perhaps", "letter", "nothing", "garden", "between", "answer", "history", "people", "water"),
)


def long_transcript(
    sessions: Sessions, storage: Storage, tenant: str, filename: str = "ten hours.flac"
) -> uuid.UUID:
    """The id of the job. Always the same words."""
    job_id = make_job(sessions, tenant=tenant, filename=filename, language="en", sha256="0" * 64)
    chance = random.Random(5)
    step = SECONDS / SEGMENTS
    segments, turns = [], []
    speaker = SPEAKERS[0]
    for number in range(SEGMENTS):
        start = number * step
        if chance.random() < 0.3:
            speaker = chance.choice(SPEAKERS)
        words = [
            {
                "text": chance.choice(VOCABULARY) + ("." if place == WORDS - 1 else ""),
                "start": round(start + place * step / WORDS, 3),
                "end": round(start + (place + 0.9) * step / WORDS, 3),
                "confidence": round(min(1.0, chance.betavariate(8, 1)), 3),
            }
            for place in range(WORDS)
        ]
        words[0]["text"] = str(words[0]["text"]).capitalize()
        segments.append(
            {
                "job_id": job_id,
                "index": number // 4 * 100 + number % 4,
                "chunk": number // 4,
                "start": start,
                "end": start + step,
                "text": " ".join(str(word["text"]) for word in words),
                "speaker": speaker,
                "language": "en",
                "confidence": 0.9,
                "source": SegmentSource.REFINED,
                "words": words,
            }
        )
        turns.append({"job_id": job_id, "index": number, "start": start, "end": start + step, "speaker": speaker})
    chunks = [
        {"job_id": job_id, "index": chunk, "start": chunk * 4 * step, "end": (chunk + 1) * 4 * step, "key": "none"}
        for chunk in range(SEGMENTS // 4)
    ]
    peaks = f"jobs/{job_id}/peaks-1"
    storage.put(peaks, chance.randbytes(int(SECONDS * 25)), "application/octet-stream")
    with job_transaction(sessions, job_id) as tx:
        tx.skip_open_steps()
        tx.session.add_all(StoredSpeaker(job_id=job_id, label=label, vector=[]) for label in SPEAKERS)
        tx.session.flush()
        for table, rows in ((Chunk, chunks), (StoredSegment, segments), (StoredTurn, turns)):
            tx.session.execute(insert(table), rows)
        _finish(tx.job, peaks)
    return job_id


def _finish(job: Job, peaks: str) -> None:
    job.status, job.duration, job.peaks_key = JobStatus.COMPLETED, SECONDS, peaks
    job.transcript_prefix, job.ingested, job.percent = f"jobs/{job.id}/none/", True, 100
    job.chunks = job.drafted = job.refined = job.final = SEGMENTS // 4
