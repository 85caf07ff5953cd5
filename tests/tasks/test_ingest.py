"""Ingest on real servers: bad media, silence, attempts that go on from the ones before."""

from __future__ import annotations

import json
import time
import uuid
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
from sqlalchemy import select

from db.models import Chunk, JobStatus, StepKind, StepState
from speech.audio import chunking, flac
from speech.audio.chunking import ChunkingOptions
from speech.audio.media import open_media
from speech.audio.peaks import PEAKS_PER_SECOND
from speech.engines import SAMPLE_RATE
from tasks.maintenance.sweep import sweep
from tasks.step import run
from tasks.steps import draft, ingest
from tests.jobs import make_job, steps_of
from tests.media import BAD_MEDIA, media_file, tone
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import MakeRuntime, counted, event_types, job_of, recording, run_until_done, submit


def test_chunks_are_drafted_during_ingest(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording())
    seen: list[tuple[int, StepState]] = []
    original = runtime.storage.put

    def put(key: str, data: bytes, content_type: str) -> None:
        if "/chunks/00001" in key:
            run(draft.handler, runtime)
            seen.extend((s.chunk or 0, s.state) for s in steps_of(runtime.sessions, job_id, StepKind.DRAFT))
        original(key, data, content_type)

    runtime.storage.put = put  # type: ignore[method-assign]
    run(ingest.handler, runtime)
    assert seen == [(0, StepState.DONE)]


def test_silence_completes_with_an_empty_transcript(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, flac.encode(tone(20)[0] * 0))
    run_until_done(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.chunks) == (JobStatus.COMPLETED, 0)
    assert json.loads(runtime.storage.get(f"{job.transcript_prefix}transcript.json"))["segments"] == []
    assert runtime.storage.get(f"{job.transcript_prefix}transcript.vtt") == b"WEBVTT\n"


@pytest.mark.parametrize("name", BAD_MEDIA)
def test_bad_media_fails_its_job_with_a_code(make_runtime: MakeRuntime, name: str) -> None:
    runtime = make_runtime()
    make, code = BAD_MEDIA[name]
    dead = counted("longhand_dead_steps_total", kind="ingest")
    job_id = submit(runtime, make())
    run_until_done(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.error_code) == (JobStatus.FAILED, code)
    # nobody is to be woken by it
    assert counted("longhand_dead_steps_total", kind="ingest") == dead
    assert event_types(runtime, job_id)[-1] == "job.failed"
    assert steps_of(runtime.sessions, job_id, StepKind.INGEST)[0].attempt == 1


def test_a_recording_over_the_limit_fails_the_job(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(max_duration=30.0)
    job_id = submit(runtime, recording())
    run_until_done(runtime)
    job = job_of(runtime, job_id)
    assert job.error_code == "audio_too_long"
    assert "30 s" in (job.error_message or "")


def test_a_missing_recording_fails_the_job(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    dead = counted("longhand_dead_steps_total", kind="ingest")
    job_id = make_job(runtime.sessions)
    run_until_done(runtime)
    assert job_of(runtime, job_id).error_code == "audio_missing"
    assert counted("longhand_dead_steps_total", kind="ingest") == dead + 1


def test_a_retried_ingest_keeps_its_chunks(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording())
    original, puts = runtime.storage.put, []

    def put(key: str, data: bytes, content_type: str) -> None:
        puts.append(key)
        if len(puts) == 2:
            raise ConnectionError("storage went away")
        original(key, data, content_type)

    runtime.storage.put = put  # type: ignore[method-assign]
    run(ingest.handler, runtime)
    with runtime.sessions() as session:
        (first,) = session.scalars(select(Chunk.key).where(Chunk.job_id == job_id))
    time.sleep(0.01)
    run_until_done(runtime)
    with runtime.sessions() as session:
        keys = list(session.scalars(select(Chunk.key).where(Chunk.job_id == job_id).order_by(Chunk.index)))
    assert keys[0] == first
    assert len(keys) == 2
    assert job_of(runtime, job_id).status == JobStatus.COMPLETED


@pytest.mark.parametrize(
    ("before", "after", "channels"), [(6.0, 30.0, "mix"), (30.0, 6.0, "mix"), (7.0, 5.0, "split")]
)
def test_an_ingest_that_cuts_elsewhere_than_the_attempt_before_loses_nothing(
    make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch, before: float, after: float, channels: str
) -> None:
    """As after an upgrade, or on a processor whose last bits differ."""
    runtime = make_runtime()
    body = recording() if channels == "mix" else recording("two_voices_stereo.wav")
    options = {"channels": channels, "diarize": False}
    whole, interrupted = (submit(runtime, body, options=options) for _ in range(2))
    original = runtime.storage.put

    def put(key: str, data: bytes, content_type: str) -> None:
        if f"{interrupted}/chunks/00001" in key:
            raise ConnectionError("storage went away")
        original(key, data, content_type)

    _cut_at_most(monkeypatch, before)
    with monkeypatch.context() as patched:
        patched.setattr(runtime.storage, "put", put)
        assert [len(run(ingest.handler, runtime)) for _ in range(2)] == [1, 1]
    assert len(_chunks(runtime, interrupted)) == 1
    _cut_at_most(monkeypatch, after)
    run_until_done(runtime)
    chunks = _chunks(runtime, interrupted)
    job = job_of(runtime, interrupted)
    assert (job.status, job.chunks, job.final) == (JobStatus.COMPLETED, len(chunks), len(chunks))
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    for channel in {chunk.channel for chunk in chunks}:
        spans = sorted(span for chunk in chunks if chunk.channel == channel for span in chunk.spans)
        assert all(left[1] <= right[0] for left, right in pairwise(spans))
        for start, end in (s for c in _chunks(runtime, whole) if c.channel == channel for s in c.spans):
            held = sum(max(0.0, min(end, to) - max(start, since)) for since, to in spans)
            # the pauses between chunks are shared out otherwise
            assert held > end - start - 0.5


def _cut_at_most(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    options = ChunkingOptions(
        max_chunk_seconds=seconds, preferred_chunk_seconds=0.8 * seconds, first_chunk_seconds=0.5 * seconds
    )
    monkeypatch.setattr(chunking, "ChunkingOptions", lambda: options)


def _chunks(runtime: FakeRuntime, job_id: uuid.UUID) -> list[Chunk]:
    with runtime.sessions() as session:
        return list(session.scalars(select(Chunk).where(Chunk.job_id == job_id).order_by(Chunk.index)))


@pytest.mark.parametrize(("container", "codec"), [("flac", "flac"), ("mp3", "libmp3lame")])
def test_what_players_need_is_stored(make_runtime: MakeRuntime, container: str, codec: str) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, media_file(tone(12), container=container, codec=codec))
    run(ingest.handler, runtime)
    job = job_of(runtime, job_id)
    assert job.peaks_key is not None
    peaks = runtime.storage.get(job.peaks_key)
    assert len(peaks) == pytest.approx(12 * PEAKS_PER_SECOND, abs=3)
    assert peaks[100] == pytest.approx(128, abs=8)
    assert (job.rendition_key is None) == (container == "flac")
    if job.rendition_key:
        with runtime.storage.open(job.rendition_key) as file, open_media(file, max_duration=60) as media:
            assert len(np.concatenate(list(media.blocks(seconds=8)))) == pytest.approx(12 * SAMPLE_RATE, abs=3000)
    sweep(runtime, timedelta(0), timedelta(0))
    kept = {key for key, _ in runtime.storage.list(f"jobs/{job_id}/")}
    assert {job.peaks_key, job.rendition_key} - {None} <= kept
