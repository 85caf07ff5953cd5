from __future__ import annotations

import itertools
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.audio.chunking import Chunk, ChunkingOptions, ChunkPlanner, Span, Stretches, cut
from speech.audio.vad.silero import FRAME_SAMPLES
from speech.engines import SAMPLE_RATE, VoiceModel
from speech.load import load_vad
from speech.models.catalogue import Catalogue
from tests.conftest import MODELS
from tests.media import load

SECOND = SAMPLE_RATE // FRAME_SAMPLES + 1
"""Frames in a little more than a second."""


def plan(
    probabilities: list[float], grouping: list[int] | None = None, options: ChunkingOptions | None = None
) -> list[Stretches]:
    planner = ChunkPlanner(FRAME_SAMPLES, options)
    chunks, at = [], 0
    for size in grouping or [len(probabilities)]:
        chunks += planner.push(probabilities[at : at + size])
        at += size
    chunks += planner.push(probabilities[at:])
    return chunks + planner.finish(len(probabilities) * FRAME_SAMPLES)


def speech(*runs: tuple[float, float]) -> list[float]:
    """Pairs of (seconds, probability) as frames."""
    return [p for seconds, p in runs for _ in range(round(seconds * SAMPLE_RATE / FRAME_SAMPLES))]


@st.composite
def recordings(draw: st.DrawFn) -> list[float]:
    runs = draw(st.lists(st.tuples(st.floats(0.05, 40), st.sampled_from([0.0, 0.2, 0.4, 0.6, 1.0])), max_size=12))
    return speech(*runs)


@settings(max_examples=150, deadline=None)
@given(recordings(), st.lists(st.integers(1, 400), max_size=10))
def test_chunks_fit_the_window_in_order_for_any_grouping_of_frames(
    frames: list[float], grouping: list[int]
) -> None:
    chunks = plan(frames)
    assert chunks == plan(frames, grouping)
    assert all(
        sum(s.length for s in chunk) <= ChunkingOptions().max_chunk_seconds * SAMPLE_RATE for chunk in chunks
    )
    spans = [span for chunk in chunks for span in chunk]
    assert all(0 <= s.start < s.end <= len(frames) * FRAME_SAMPLES for s in spans)
    assert all(left.end <= right.start for left, right in pairwise(spans))


@settings(max_examples=150, deadline=None)
@given(recordings())
def test_all_speech_is_in_a_chunk(frames: list[float]) -> None:
    covered = np.zeros(len(frames), bool)
    for span in itertools.chain.from_iterable(plan(frames)):
        covered[span.start // FRAME_SAMPLES : span.end // FRAME_SAMPLES] = True
    certain = np.asarray(frames) >= 0.5
    # runs shorter than what counts as speech may be dropped
    edges = np.flatnonzero(np.diff(np.concatenate([[0], certain.astype(int), [0]])))
    for start, end in edges.reshape(-1, 2):
        if end - start >= 4:
            assert covered[start:end].all()


def test_silence_gives_no_chunks() -> None:
    assert plan(speech((600, 0.01))) == []


def test_one_word_in_an_hour_of_silence_is_found() -> None:
    ((span,),) = plan(speech((1800, 0.0), (0.3, 0.9), (1799, 0.0)))
    assert span.start < 1800 * SAMPLE_RATE < span.end
    assert span.length < 2 * SAMPLE_RATE


def test_long_pauses_are_left_out_but_for_the_context() -> None:
    ((first, second, third),) = plan(
        speech((2, 0), (2, 0.9), (5, 0), (2, 0.9), (0.4, 0), (1, 0.9), (60, 0), (1, 0.9))
    )
    context = ChunkingOptions().context_seconds
    seconds = [(span.start / SAMPLE_RATE, span.end / SAMPLE_RATE) for span in (first, second, third)]
    expected = [(2 - context, 4 + context), (9 - context, 12.4 + context), (72.4 - context, 73.4)]
    assert np.abs(np.array(seconds) - expected).max() < 0.1


def test_windows_are_full_but_for_the_first_and_the_last() -> None:
    chunks = plan(speech(*[part for _ in range(40) for part in ((2.0, 0.9), (1.5, 0.0))]))
    lengths = [sum(span.length for span in chunk) / SAMPLE_RATE for chunk in chunks]
    assert 10 <= lengths[0] < 13, "so that its draft comes soon"
    assert all(24 <= length <= 30 for length in lengths[1:-1])


def test_a_chunk_covers_only_so_much_time() -> None:
    chunks = plan(speech(*[part for _ in range(10) for part in ((0.5, 0.9), (50.0, 0.0))]))
    assert all(chunk[-1].end - chunk[0].start < 130 * SAMPLE_RATE for chunk in chunks)
    assert len(chunks) < 10


LATER = ChunkingOptions(first_chunk_seconds=30)
"""The first chunk is full, as all that follow."""


def test_chunks_are_cut_at_the_longest_late_pause() -> None:
    frames = speech((10, 0.9), (0.4, 0), (14, 0.9), (0.5, 0), (2, 0.9), (0.35, 0), (10, 0.9))
    (*_, end), (start, *_) = plan(frames, options=LATER)
    assert abs(end.end / SAMPLE_RATE - 24.6) < 0.2
    assert abs(start.start / SAMPLE_RATE - 24.7) < 0.2


def test_continuous_speech_is_cut_where_it_is_least_probable() -> None:
    ((first,), (second,)) = plan(speech((20, 0.95), (0.2, 0.55), (30, 0.95)), options=LATER)[:2]
    assert abs(first.end / SAMPLE_RATE - 20.1) < 0.2
    assert second.start == first.end


@pytest.fixture(scope="module")
def vad() -> VoiceModel:
    return load_vad(Catalogue(MODELS))


def test_the_detector_does_not_depend_on_the_blocks(vad: VoiceModel) -> None:
    samples = load("ocean_0001.flac")
    whole = vad.stream()
    at_once = np.concatenate([whole.push(samples), whole.flush()])
    stream, pieces, at = vad.stream(), [], 0
    for size in (1, 511, 512, 513, 5000, 100_000, len(samples)):
        pieces.append(stream.push(samples[at : at + size]))
        at += size
    pieces.append(stream.flush())
    assert np.abs(np.concatenate(pieces) - at_once).max() < 1e-4


def test_real_speech_is_cut_in_silence(vad: VoiceModel) -> None:
    samples = load("ocean_0036.flac")
    blocks = [samples[i : i + 40_000] for i in range(0, len(samples), 40_000)]
    chunks = list(cut(blocks, vad.stream()))
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert len(chunks) >= 2
    for chunk in chunks:
        pieces = [samples[span.start : span.end] for span in chunk.stretches]
        assert np.array_equal(chunk.samples, np.concatenate(pieces))
        # context on both sides is quiet
        assert np.abs(chunk.samples[:1600]).mean() < np.abs(chunk.samples).mean() / 2
        assert np.abs(chunk.samples[-1600:]).mean() < np.abs(chunk.samples).mean() / 2


@given(st.integers(0, 60_000))
def test_what_lies_behind_a_sample_keeps_its_sound(sample: int) -> None:
    sound = np.arange(60_000, dtype=np.float32)
    spans = (Span(1_000, 9_000), Span(20_000, 21_000), Span(50_000, 58_000))
    chunk = Chunk(3, spans, np.concatenate([sound[span.start : span.end] for span in spans]), channel=1)
    behind = chunk.behind(sample)
    kept = [at for span in spans for at in range(max(span.start, sample), span.end)]
    if len(kept) < ChunkingOptions().min_speech_seconds * SAMPLE_RATE:
        assert behind is None
        return
    assert behind is not None
    assert (behind.index, behind.channel) == (3, 1)
    assert behind.samples.tolist() == kept
    assert kept == [at for span in behind.stretches for at in range(span.start, span.end)]
