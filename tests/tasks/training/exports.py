"""Transcribed recordings, and exports of them."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select, update

from db.models import Chunk, Export, JobStatus, Sample, SegmentSource, StoredSegment
from db.queue.transaction import job_transaction
from db.training import exports
from speech.audio import flac
from speech.engines import Utterance
from speech.training.dataset.filters import Filters
from speech.training.dataset.text import Cleaning
from tasks import flow
from tasks.steps import align, draft, finalize, refine
from tasks.training.export import step as export
from tests.jobs import make_job
from tests.media import DATA
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import job_of, run_until_done

TRANSCRIPTION_HANDLERS = (draft.handler, refine.handler, align.handler, finalize.handler)
RECORDINGS = ("librivox_0870.flac", "librivox_0880.flac", "librivox_0890.flac", "librivox_0920.flac")
DESCRIPTION_FILES = ("manifest.json", "dataset_card.md", "README.md")
"""They name the export itself."""


def unique_words(utterance: Utterance) -> str:
    """Words that only this chunk has, two a second."""
    name = hashlib.sha256(utterance.samples.tobytes()).hexdigest()
    return " ".join(f"w{name[i : i + 5]}" for i in range(max(4, len(utterance.samples) // 8000)))


def transcribe_recording(runtime: FakeRuntime, name: str, **values: Any) -> uuid.UUID:
    """A completed job of one chunk; only its ingest is skipped."""
    job_id = make_job(runtime.sessions, language="en", **values)
    body = (DATA / name).read_bytes()
    key = f"jobs/{job_id}/chunks/00000.flac"
    runtime.storage.put(key, body, "audio/flac")
    with job_transaction(runtime.sessions, job_id) as tx:
        tx.skip_open_steps()
        flow.start_job(tx, {})
        tx.session.add(Chunk(job_id=job_id, index=0, start=0.0, end=len(flac.decode(body)) / 16000, key=key))
        tx.session.flush()
        flow.add_chunk(tx, 0)
        tx.job.ingested = True
    run_until_done(runtime, TRANSCRIPTION_HANDLERS)
    assert job_of(runtime, job_id).status == JobStatus.COMPLETED
    return job_id


def enqueue_export(runtime: FakeRuntime, *, dry_run: bool = False, days: int = 0, **filters: Any) -> uuid.UUID:
    """Enqueue the export of today, or of a day later on."""
    since, until = exports.day_bounds(datetime.now(UTC).date() + timedelta(days=days))
    with runtime.sessions.begin() as session:
        transaction = exports.start_export(
            session,
            "default",
            since,
            until,
            filters=Filters.from_json(filters).to_json(),
            cleaning=Cleaning().to_json(),
            dry_run=dry_run,
        )
        return transaction.job.id


def run_export(runtime: FakeRuntime, **options: Any) -> Export:
    """Enqueue and complete an export."""
    export_id = enqueue_export(runtime, **options)
    run_until_done(runtime, [export.handler])
    assert job_of(runtime, export_id).status == JobStatus.COMPLETED
    with runtime.sessions() as session:
        return session.get_one(Export, export_id)


def samples_of(runtime: FakeRuntime, exported: Export) -> list[Sample]:
    with runtime.sessions() as session:
        rows = session.scalars(select(Sample).where(Sample.export_id == exported.job_id))
        return sorted(rows, key=lambda row: (row.job_id, row.segment))


def files_of(runtime: FakeRuntime, exported: Export) -> dict[str, bytes]:
    """The export's files by path."""
    prefix = exports.prefix(exported)
    return {key.removeprefix(prefix): runtime.storage.get(key) for key, _ in runtime.storage.list(prefix)}


def json_lines(data: bytes) -> Iterator[dict[str, Any]]:
    return map(json.loads, data.decode().splitlines())


def correct_transcript(runtime: FakeRuntime, job_id: uuid.UUID, text: str, at: datetime | None = None) -> None:
    with job_transaction(runtime.sessions, job_id) as tx:
        tx.session.execute(
            update(StoredSegment)
            .where(StoredSegment.job_id == job_id)
            .values(text=text, source=SegmentSource.HUMAN, confidence=1.0)
        )
        tx.job.corrected_at = at or datetime.now(UTC)
