"""Cutting recordings into chunks that fill Whisper's window of 30 s, in silence where there is any.

The cuts decide the quality of transcripts: a chunk that ends inside a word loses it, many short chunks cost a full
encoder pass each, and Whisper hallucinates in a long silence inside a chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from speech.engines import SAMPLE_RATE, Samples, VoiceDetector, VoiceModel


@dataclass(frozen=True, slots=True)
class ChunkingOptions:
    """Limits on chunks, and the hysteresis of speech detection."""

    max_chunk_seconds: float = 30.0
    """Longest chunk, context included."""
    context_seconds: float = 0.4
    """Silence kept on both sides of a chunk's speech."""
    min_pause_seconds: float = 0.3
    """Silence that ends a run of speech."""
    max_pause_seconds: float = 3.0
    """Silence that ends a chunk."""
    min_speech_seconds: float = 0.1
    """Runs of speech shorter than this are noise."""
    preferred_chunk_seconds: float = 22.0
    """A chunk is cut at its longest pause after this."""
    onset: float = 0.5
    """Probability from which speech begins."""
    offset: float = 0.35
    """Probability below which speech may end."""


@dataclass(frozen=True, slots=True)
class Span:
    """Samples ``start`` to ``end`` (exclusive) of the recording."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk of the recording."""

    index: int
    start_samples: int
    samples: Samples
    channel: int | None = None
    """The channel, from 0, where channels are cut separately."""


class ChunkPlanner:
    """Takes the probability of speech frame by frame, and returns spans as soon as their end is decided.

    The result depends on the probabilities alone, not on how they are grouped into calls.
    """

    def __init__(self, frame_samples: int, options: ChunkingOptions | None = None) -> None:
        self._frame_samples = frame_samples
        self._options = options or ChunkingOptions()
        self._context_frames = self._frames(self._options.context_seconds)
        self._max_speech_frames = self._frames(self._options.max_chunk_seconds) - 2 * self._context_frames
        self._frame_count = 0
        self._runs: list[tuple[int, int]] = []
        """Finished runs of speech that are in no span yet, in frames."""
        self._run_start: int | None = None
        """First frame of the current run of speech."""
        self._silence_start: int | None = None
        """First frame of the silence that may end the current run."""
        self._run_probabilities: list[float] = []
        """Probabilities of the current run."""
        self._last_end = 0
        """End of the last span, in frames: no later span begins before it."""

    def _frames(self, seconds: float) -> int:
        return int(seconds * SAMPLE_RATE / self._frame_samples)

    @property
    def first_needed_sample(self) -> int:
        """No further span begins before this sample."""
        first = self._runs[0][0] if self._runs else self._run_start
        frame = (self._frame_count if first is None else first) - self._context_frames
        return max(self._last_end, frame, 0) * self._frame_samples

    def push(self, probabilities: Iterable[float]) -> list[Span]:
        spans: list[Span] = []
        for probability in probabilities:
            self._track_speech(float(probability))
            spans += self._complete_spans()
        return spans

    def finish(self, total_samples: int) -> list[Span]:
        """The last spans, once the recording has ended."""
        if self._run_start is not None:
            self._end_run(self._frame_count if self._silence_start is None else self._silence_start)
        spans = self._emit(len(self._runs))
        return [Span(span.start, min(span.end, total_samples)) for span in spans]

    def _track_speech(self, probability: float) -> None:
        """Extend, begin or end the current run of speech, with hysteresis."""
        frame = self._frame_count
        self._frame_count += 1
        if self._run_start is None:
            if probability >= self._options.onset:
                self._run_start, self._silence_start, self._run_probabilities = frame, None, [probability]
            return
        self._run_probabilities.append(probability)
        if probability >= self._options.onset:
            self._silence_start = None
        elif self._silence_start is None and probability < self._options.offset:
            self._silence_start = frame
        if self._silence_start is not None:
            silence_frames = self._frame_count - self._silence_start
            if silence_frames >= self._frames(self._options.min_pause_seconds):
                self._end_run(self._silence_start)

    def _end_run(self, end: int) -> None:
        if self._run_start is not None and end - self._run_start >= self._frames(self._options.min_speech_seconds):
            self._runs.append((self._run_start, end))
        self._run_start = self._silence_start = None

    def _complete_spans(self) -> list[Span]:
        """Cut where a long silence ends the chunk, or where speech exceeds the window."""
        if self._run_start is None:
            if self._runs and self._frame_count - self._runs[-1][1] > self._frames(
                self._options.max_pause_seconds
            ):
                return self._emit(len(self._runs))
            return []
        first = self._runs[0][0] if self._runs else self._run_start
        if self._frame_count - first <= self._max_speech_frames:
            return []
        if self._runs:
            return self._emit(self._runs_before_best_pause(first))
        return self._split_run()

    def _runs_before_best_pause(self, first: int) -> int:
        """How many runs to emit: up to the longest of the late pauses, else up to the last pause."""
        starts = [start for start, _ in self._runs[1:]] + [self._run_start or self._frame_count]
        late = [
            (start - end, count)
            for count, ((_, end), start) in enumerate(zip(self._runs, starts, strict=True), 1)
            if end - first >= self._frames(self._options.preferred_chunk_seconds)
        ]
        return max(late)[1] if late else len(self._runs)

    def _split_run(self) -> list[Span]:
        """Speech without any pause fills the window: cut it where speech is least probable in its second half."""
        run_start = self._run_start or 0
        half = len(self._run_probabilities) // 2
        late = np.asarray(self._run_probabilities[half:])
        # over five frames (0.16 s), to find a dip between words and not a single frame
        smoothed = np.convolve(late, np.ones(5) / 5, mode="same")
        smoothed[:2] = smoothed[-2:] = np.inf
        at = half + int(np.argmin(smoothed))
        span = self._span(run_start, run_start + at, next_start=run_start + at)
        self._run_start, self._run_probabilities = run_start + at, self._run_probabilities[at:]
        self._silence_start = None
        return [span]

    def _emit(self, count: int) -> list[Span]:
        """The first ``count`` runs as one span."""
        if not count:
            return []
        emitted, self._runs = self._runs[:count], self._runs[count:]
        next_start = self._runs[0][0] if self._runs else self._run_start
        return [self._span(emitted[0][0], emitted[-1][1], next_start)]

    def _span(self, start: int, end: int, next_start: int | None) -> Span:
        """A span with context on both sides; two spans share a short pause by halves."""
        start = max(self._last_end, start - self._context_frames)
        end = (
            end + self._context_frames
            if next_start is None
            else min(end + self._context_frames, (end + next_start) // 2)
        )
        self._last_end = end
        return Span(start * self._frame_samples, end * self._frame_samples)


class ChannelCutter:
    """Cuts one channel while it is being decoded; buffers little more than one window of audio."""

    def __init__(self, detector: VoiceDetector, options: ChunkingOptions | None = None) -> None:
        self._detector = detector
        self._planner = ChunkPlanner(detector.frame_samples, options)
        self._buffer: Samples = np.zeros(0, np.float32)
        self._buffer_start = 0
        """Index of the first buffered sample in the recording."""

    def push(self, block: Samples) -> list[tuple[int, Samples]]:
        """(start, samples) of the chunks whose end is decided with this block."""
        self._buffer = np.concatenate([self._buffer, block])
        pieces = self._slice(self._planner.push(self._detector.push(block)))
        drop = min(self._planner.first_needed_sample - self._buffer_start, len(self._buffer))
        self._buffer, self._buffer_start = self._buffer[drop:], self._buffer_start + drop
        return pieces

    def finish(self) -> list[tuple[int, Samples]]:
        """The last chunks, once the recording has ended."""
        spans = self._planner.push(self._detector.flush())
        spans += self._planner.finish(self._buffer_start + len(self._buffer))
        return self._slice(spans)

    def _slice(self, spans: list[Span]) -> list[tuple[int, Samples]]:
        return [
            (s.start, self._buffer[s.start - self._buffer_start : s.end - self._buffer_start].copy())
            for s in spans
        ]


def cut(
    blocks: Iterable[Samples], detector: VoiceDetector, options: ChunkingOptions | None = None
) -> Iterator[Chunk]:
    """The chunks of a recording, while it is being decoded."""
    return _number_chunks((block[None] for block in blocks), [ChannelCutter(detector, options)], split=False)


def cut_channels(
    blocks: Iterable[NDArray[np.float32]], model: VoiceModel, channels: int, options: ChunkingOptions | None = None
) -> Iterator[Chunk]:
    """The chunks of each channel of blocks (channels, samples), numbered as they are decided."""
    return _number_chunks(blocks, [ChannelCutter(model.stream(), options) for _ in range(channels)], split=True)


def _number_chunks(
    blocks: Iterable[NDArray[np.float32]], cutters: Sequence[ChannelCutter], *, split: bool
) -> Iterator[Chunk]:
    index = count()
    for block in blocks:
        for channel, (cutter, samples) in enumerate(zip(cutters, block, strict=True)):
            for start, piece in cutter.push(samples):
                yield Chunk(next(index), start, piece, channel if split else None)
    for channel, cutter in enumerate(cutters):
        for start, piece in cutter.finish():
            yield Chunk(next(index), start, piece, channel if split else None)
