"""Cutting recordings into chunks that fill Whisper's window of 30 s with speech.

The cuts decide the quality of transcripts and their price: a chunk that ends inside a word loses it, every chunk
costs a full encoder pass, and Whisper hallucinates in long silence. So long pauses are left out: a chunk is a list
of stretches of the recording, one behind the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from speech.engines import SAMPLE_RATE, Samples, VoiceDetector, VoiceModel
from speech.text.timeline import Timeline


@dataclass(frozen=True, slots=True)
class ChunkingOptions:
    """Limits on chunks, and the hysteresis of speech detection."""

    max_chunk_seconds: float = 30.0
    """Longest chunk, context included."""
    first_chunk_seconds: float = 10.0
    """The first chunk ends at the first pause after this, so that a draft of it comes soon."""
    preferred_chunk_seconds: float = 24.0
    """A chunk is cut at its longest pause after this."""
    max_span_seconds: float = 120.0
    """Longest time of the recording, left-out pauses included, that a chunk covers."""
    context_seconds: float = 0.2
    """Silence kept on both sides of a stretch's speech."""
    min_pause_seconds: float = 0.3
    """Silence that ends a run of speech."""
    max_pause_seconds: float = 1.0
    """Longer silence is left out, but for the context."""
    min_speech_seconds: float = 0.1
    """Runs of speech shorter than this are noise."""
    onset: float = 0.5
    """Probability from which speech begins."""
    offset: float = 0.35
    """Probability below which speech may end."""


@dataclass(frozen=True, slots=True)
class Span:
    """Samples ``start`` to ``end`` (exclusive) of the recording."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


Stretches = tuple[Span, ...]
"""What a chunk consists of, in order, without overlap."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk of the recording."""

    index: int
    """Its place among the chunks of this cutting, from 0."""
    stretches: Stretches
    samples: Samples
    """The stretches, one behind the other."""
    channel: int | None = None
    """The channel, from 0, where channels are cut separately."""

    @property
    def timeline(self) -> Timeline:
        return Timeline(tuple((span.start / SAMPLE_RATE, span.end / SAMPLE_RATE) for span in self.stretches))

    def behind(self, sample: int) -> Chunk | None:
        """What of the chunk lies behind a sample of the recording; None if that is too short for speech."""
        if sample <= self.stretches[0].start:
            return self
        stretches = tuple(Span(max(span.start, sample), span.end) for span in self.stretches if span.end > sample)
        length = sum(span.length for span in stretches)
        if length < ChunkingOptions().min_speech_seconds * SAMPLE_RATE:
            return None
        return replace(self, stretches=stretches, samples=self.samples[len(self.samples) - length :])


class ChunkPlanner:
    """Takes the probability of speech frame by frame, and returns each chunk's stretches once they are decided.

    The result depends on the probabilities alone, not on how they are grouped into calls.
    """

    def __init__(self, frame_samples: int, options: ChunkingOptions | None = None) -> None:
        self._frame_samples = frame_samples
        self._options = options or ChunkingOptions()
        self._context = self._frames(self._options.context_seconds)
        self._max_pause = max(self._frames(self._options.max_pause_seconds), 2 * self._context)
        self._max_frames = self._frames(self._options.max_chunk_seconds)
        self._frame_count = 0
        self._runs: list[Span] = []
        """Finished runs of speech that are in no chunk yet, in frames."""
        self._run_start: int | None = None
        """First frame of the current run of speech."""
        self._silence_start: int | None = None
        """First frame of the silence that may end the current run."""
        self._run_probabilities: list[float] = []
        """Probabilities of the current run."""
        self._last_end = 0
        """End of the last chunk, in frames: no later one begins before it."""

    def _frames(self, seconds: float) -> int:
        return int(seconds * SAMPLE_RATE / self._frame_samples)

    @property
    def first_needed_sample(self) -> int:
        """No further chunk begins before this sample."""
        first = self._runs[0].start if self._runs else self._run_start
        frame = (self._frame_count if first is None else first) - self._context
        return max(self._last_end, frame, 0) * self._frame_samples

    def push(self, probabilities: Iterable[float]) -> list[Stretches]:
        chunks: list[Stretches] = []
        for probability in probabilities:
            self._track_speech(float(probability))
            chunks += self._complete_chunks()
        return chunks

    def finish(self, total_samples: int) -> list[Stretches]:
        """The last chunk, once the recording has ended."""
        if self._run_start is not None:
            self._end_run(self._frame_count if self._silence_start is None else self._silence_start)
        return [
            tuple(Span(span.start, min(span.end, total_samples)) for span in stretches)
            for stretches in self._emit(len(self._runs))
        ]

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
            self._runs.append(Span(self._run_start, end))
        self._run_start = self._silence_start = None

    def _complete_chunks(self) -> list[Stretches]:
        """Cut where the window is full, or where the chunk covers too much time; the first one sooner."""
        if self._run_start is None:
            if self._runs and (
                self._frame_count - self._runs[0].start > self._frames(self._options.max_span_seconds)
                or (self._last_end == 0 and self._length(self._runs) >= self._first_frames)
            ):
                return self._emit(len(self._runs))
            return []
        runs = [*self._runs, Span(self._run_start, self._frame_count)]
        if self._length(runs) <= self._max_frames:
            return []
        return self._emit(self._runs_before_best_pause()) if self._runs else self._split_run()

    @property
    def _first_frames(self) -> int:
        return self._frames(self._options.first_chunk_seconds)

    def _runs_before_best_pause(self) -> int:
        """How many runs to emit: up to the longest of the late pauses, else up to the last pause."""
        starts = [run.start for run in self._runs[1:]] + [self._run_start or self._frame_count]
        preferred = self._frames(self._options.preferred_chunk_seconds)
        late = [
            (start - run.end, count)
            for count, (run, start) in enumerate(zip(self._runs, starts, strict=True), 1)
            if self._length(self._runs[:count]) >= preferred
        ]
        return max(late)[1] if late else len(self._runs)

    def _split_run(self) -> list[Stretches]:
        """Speech without any pause fills the window: cut it where speech is least probable in its second half."""
        run_start = self._run_start or 0
        half = len(self._run_probabilities) // 2
        late = np.asarray(self._run_probabilities[half:])
        # over five frames (0.16 s), to find a dip between words and not a single frame
        smoothed = np.convolve(late, np.ones(5) / 5, mode="same")
        smoothed[:2] = smoothed[-2:] = np.inf
        at = half + int(np.argmin(smoothed))
        stretches = self._pad([Span(run_start, run_start + at)], next_start=run_start + at)
        self._run_start, self._run_probabilities = run_start + at, self._run_probabilities[at:]
        self._silence_start = None
        return [stretches]

    def _emit(self, count: int) -> list[Stretches]:
        """The first ``count`` runs as one chunk."""
        if not count:
            return []
        emitted, self._runs = self._runs[:count], self._runs[count:]
        next_start = self._runs[0].start if self._runs else self._run_start
        return [self._pad(emitted, next_start)]

    def _join(self, runs: Sequence[Span]) -> list[Span]:
        """The stretches of speech that runs make, joined across the pauses that are kept."""
        joined: list[Span] = []
        for run in runs:
            if joined and run.start - joined[-1].end <= self._max_pause:
                joined[-1] = Span(joined[-1].start, run.end)
            else:
                joined.append(run)
        return joined

    def _length(self, runs: Sequence[Span]) -> int:
        """The length of a chunk of these runs, in frames."""
        return sum(stretch.length + 2 * self._context for stretch in self._join(runs))

    def _pad(self, runs: Sequence[Span], next_start: int | None) -> Stretches:
        """The stretches in samples, with context on both sides; two chunks share a short pause by halves."""
        padded = [Span(s.start - self._context, s.end + self._context) for s in self._join(runs)]
        first, last = padded[0], padded[-1]
        padded[0] = Span(max(self._last_end, first.start), first.end)
        if next_start is not None:
            end = min(last.end, (last.end - self._context + next_start) // 2)
            padded[-1] = Span(padded[-1].start, end)
        self._last_end = padded[-1].end
        return tuple(Span(s.start * self._frame_samples, s.end * self._frame_samples) for s in padded)


class ChunkCutter:
    """Cuts audio of which the probabilities of speech are known; buffers at most what one chunk covers."""

    def __init__(self, frame_samples: int, options: ChunkingOptions | None = None) -> None:
        self._planner = ChunkPlanner(frame_samples, options)
        self._buffer: Samples = np.zeros(0, np.float32)
        self._buffer_start = 0
        """Index of the first buffered sample in the recording."""

    def push(self, block: Samples, probabilities: Iterable[float]) -> list[tuple[Stretches, Samples]]:
        """(stretches, samples) of the chunks whose end is decided with these frames; ``block`` may exceed them."""
        self._buffer = np.concatenate([self._buffer, block])
        pieces = self._slice(self._planner.push(probabilities))
        drop = min(self._planner.first_needed_sample - self._buffer_start, len(self._buffer))
        self._buffer, self._buffer_start = self._buffer[drop:], self._buffer_start + drop
        return pieces

    def finish(self, probabilities: Iterable[float]) -> list[tuple[Stretches, Samples]]:
        """The last chunks, once the recording has ended with these frames."""
        chunks = self._planner.push(probabilities)
        chunks += self._planner.finish(self._buffer_start + len(self._buffer))
        return self._slice(chunks)

    def _slice(self, chunks: Sequence[Stretches]) -> list[tuple[Stretches, Samples]]:
        return [(stretches, np.concatenate([self._samples(span) for span in stretches])) for stretches in chunks]

    def _samples(self, span: Span) -> Samples:
        return self._buffer[span.start - self._buffer_start : span.end - self._buffer_start]


class ChannelCutter:
    """Cuts one channel while it is being decoded."""

    def __init__(self, detector: VoiceDetector, options: ChunkingOptions | None = None) -> None:
        self._detector = detector
        self._cutter = ChunkCutter(detector.frame_samples, options)

    def push(self, block: Samples) -> list[tuple[Stretches, Samples]]:
        """(stretches, samples) of the chunks whose end is decided with this block."""
        return self._cutter.push(block, self._detector.push(block))

    def finish(self) -> list[tuple[Stretches, Samples]]:
        """The last chunks, once the recording has ended."""
        return self._cutter.finish(self._detector.flush())


def cut(
    blocks: Iterable[Samples], detector: VoiceDetector, options: ChunkingOptions | None = None
) -> Iterator[Chunk]:
    """The chunks of a recording, while it is being decoded."""
    return _number_chunks((block[None] for block in blocks), [ChannelCutter(detector, options)], split=False)


def cut_rest(blocks: Iterable[Samples], detector: VoiceDetector, begin: int) -> Iterator[Chunk]:
    """The chunks of what begins at the sample ``begin``."""
    for chunk in cut(_skip(blocks, begin), detector):
        yield replace(chunk, stretches=shift(chunk.stretches, begin))


def shift(stretches: Stretches, samples: int) -> Stretches:
    """The stretches that much later."""
    return tuple(Span(span.start + samples, span.end + samples) for span in stretches)


def _skip(blocks: Iterable[Samples], samples: int) -> Iterator[Samples]:
    for block in blocks:
        skipped = min(samples, len(block))
        samples -= skipped
        yield block[skipped:]


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
            for stretches, piece in cutter.push(samples):
                yield Chunk(next(index), stretches, piece, channel if split else None)
    for channel, cutter in enumerate(cutters):
        for stretches, piece in cutter.finish():
            yield Chunk(next(index), stretches, piece, channel if split else None)
