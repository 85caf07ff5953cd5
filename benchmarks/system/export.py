"""Time and memory of an export of many hours; recordings of two hours with five speakers each."""

from __future__ import annotations

import multiprocessing
import random
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.table import Table
from sqlalchemy import insert

from benchmarks.recordings import sources
from benchmarks.stack import running_parts, settings_of
from db.models import Chunk, Export, JobStatus, Role, SegmentSource, StoredHypothesis, StoredSegment, StoredSpeaker
from db.objects.storage import Storage
from db.queue.transaction import job_transaction
from db.settings import Settings
from db.training import exports
from speech.audio import flac
from speech.engines import SAMPLE_RATE
from speech.training.dataset.filters import Filters
from speech.training.dataset.text import Cleaning
from tasks.runtime import Runtime
from tasks.step import run
from tasks.training.export import step as export
from tests.jobs import make_job

CHUNKS, SEGMENTS_PER_CHUNK, SPEAKERS = 240, 3, 5
"""Chunks and speakers are per recording."""
CHUNK_SECONDS = 30.0
WORDS = [
    f"{first}{middle}{last}" for first in "bdfgklm" for middle in "aeiou" for last in ("n", "ra", "st", "ley")
]


def measure(speech: Path, hours: tuple[int, ...] = (2, 20)) -> Table:
    """Each length runs with its own servers and process, since peak memory never falls."""
    table = Table("hours", "clips", "seconds", "× real time", "MB, peak", title="exports of training data")
    for length in hours:
        with TemporaryDirectory() as folder, running_parts(Path(folder), ("postgres", "redis", "s3")) as started:
            settings = settings_of(started)
            export_id = _prepare(settings, speech, length)
            pipe, worker_pipe = multiprocessing.get_context("spawn").Pipe()
            worker = multiprocessing.get_context("spawn").Process(
                target=_work, args=(settings, export_id, worker_pipe)
            )
            worker.start()
            clips, seconds, peak = pipe.recv()
            worker.join()
        speed = length * 3600 / seconds
        table.add_row(str(length), str(clips), f"{seconds:.0f}", f"{speed:.0f}", f"{peak:.0f}")
    return table


def _work(settings: Settings, export_id: Any, pipe: Connection) -> None:
    runtime = Runtime(settings)
    started = time.perf_counter()
    run(export.handler, runtime)
    seconds = time.perf_counter() - started
    with runtime.sessions() as session:
        summary = session.get_one(Export, export_id).summary
    clips = sum(split["clips"] for split in summary["splits"].values()) if summary else 0
    if not clips:
        raise RuntimeError("nothing was exported")
    pipe.send((clips, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000))


def _prepare(settings: Settings, speech: Path, hours: int) -> Any:
    """Transcripts as the pipeline stores them; all chunks have the same audio, all segments different words."""
    runtime = Runtime(settings)
    sound = np.concatenate([samples for samples, _ in sources(speech)])[: int(CHUNK_SECONDS) * SAMPLE_RATE]
    Storage(settings).put("jobs/sound.flac", flac.encode(sound), "audio/flac")
    generator = np.random.default_rng(7)
    for number in range(hours * 3600 // int(CHUNKS * CHUNK_SECONDS)):
        job_id = make_job(runtime.sessions, language="en")
        voices = generator.normal(size=(SPEAKERS, 192)).astype(np.float32)
        with job_transaction(runtime.sessions, job_id) as tx:
            for label, vector in enumerate(voices):
                tx.session.add(
                    StoredSpeaker(job_id=job_id, label=f"SPEAKER_{label:02d}", vector=[float(x) for x in vector])
                )
            chunks, hypotheses, segments = zip(*_rows(job_id, number), strict=True)
            tx.session.execute(insert(Chunk), chunks)
            tx.session.execute(insert(StoredHypothesis), [row for pair in hypotheses for row in pair])
            tx.session.execute(insert(StoredSegment), [row for group in segments for row in group])
            tx.skip_open_steps()
            tx.job.status, tx.job.transcript_prefix = JobStatus.COMPLETED, "x"
            tx.job.completed_at = datetime.now(UTC)
    since, until = exports.day_bounds(datetime.now(UTC).date() - timedelta(days=1))
    with runtime.sessions.begin() as session:
        transaction = exports.start_export(
            session,
            "default",
            since,
            until + timedelta(days=1),
            filters=Filters().to_json(),
            cleaning=Cleaning().to_json(),
        )
        return transaction.job.id


def _rows(job_id: Any, number: int) -> Iterator[tuple[Any, ...]]:
    generator = random.Random(number)
    length = CHUNK_SECONDS / SEGMENTS_PER_CHUNK
    for index in range(CHUNKS):
        segments, words = [], []
        for position in range(SEGMENTS_PER_CHUNK):
            text = " ".join(generator.choices(WORDS, k=25))
            start = index * CHUNK_SECONDS + position * length
            step = length / len(text.split())
            segment_words = [
                {"text": w, "start": start + i * step, "end": start + (i + 1) * step, "confidence": 0.9}
                for i, w in enumerate(text.split())
            ]
            words += segment_words
            segments.append(
                {
                    **{"job_id": job_id, "index": index * 100 + position, "chunk": index, "start": start},
                    **{"end": start + length, "text": text, "speaker": f"SPEAKER_{position % SPEAKERS:02d}"},
                    **{
                        "language": "en",
                        "confidence": 0.9,
                        "source": SegmentSource.REFINED,
                        "words": segment_words,
                    },
                }
            )
        begin, end = index * CHUNK_SECONDS, (index + 1) * CHUNK_SECONDS
        phrase = {"start": begin, "end": end, "text": "", "confidence": 0.9, "words": words}
        content = {"language": "en", "phrases": [phrase], "signals": {}}
        hypotheses = [
            {"job_id": job_id, "chunk": index, "role": role, "engine": {}, "content": content} for role in Role
        ]
        chunk = {"job_id": job_id, "index": index, "start": begin, "end": end, "key": "jobs/sound.flac"}
        yield {**chunk, "channel": None}, hypotheses, segments
