"""Where to cut: speech is gathered into chunks that fill Whisper's window of 30 s, cut in silence.

ChunkingOptions decides quality downstream: a chunk that ends inside a word loses it, many short chunks cost a full
encoder pass each, and a long silence inside a chunk invites hallucination.
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
    """How to cut; all times in seconds."""

    window: float = 30.0
    """Longest chunk, padding included."""
    padding: float = 0.4
    """Silence kept on both sides of a chunk's speech."""
    pause: float = 0.3
    """Silence that ends a run of speech."""
    max_pause: float = 3.0
    """Silence that ends a chunk."""
    min_speech: float = 0.1
    """Runs of speech shorter than this are noise."""
    prefer_after: float = 22.0
    """From here on in a chunk, its longest pause is the place to cut."""
    threshold: float = 0.5
    """Probability that begins speech."""
    end_threshold: float = 0.35
    """Probability below which speech may end."""


@dataclass(frozen=True, slots=True)
class Span:
    """Samples ``start`` to ``end`` (exclusive) of the recording."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A cut piece of the recording."""

    index: int
    start_samples: int
    samples: Samples
    channel: int | None = None
    """Where channels are cut apart: which one, from 0."""


class ChunkPlanner:
    """Takes the probability of speech frame by frame, and gives spans as soon as their end is decided.

    The result depends on the probabilities alone, not on how they are grouped into calls.
    """

    def __init__(self, frame_samples: int, options: ChunkingOptions | None = None) -> None:
        self._frame = frame_samples
        self._options = options or ChunkingOptions()
        self._padding = self._frames(self._options.padding)
        self._room = self._frames(self._options.window) - 2 * self._padding
        self._frames_seen = 0
        self._runs: list[tuple[int, int]] = []
        """Finished runs of speech that wait to be cut, in frames."""
        self._run_start: int | None = None
        """First frame of the run going on."""
        self._silence_start: int | None = None
        """First frame of the silence that may end it."""
        self._run_probabilities: list[float] = []
        """Probabilities of the run going on."""
        self._last_end = 0
        """End of the last span, in frames: nothing before it is given out again."""

    def _frames(self, seconds: float) -> int:
        return int(seconds * SAMPLE_RATE / self._frame)

    @property
    def needed_from(self) -> int:
        """Samples before this one will not be part of any further span."""
        first = self._runs[0][0] if self._runs else self._run_start
        frame = (self._frames_seen if first is None else first) - self._padding
        return max(self._last_end, frame, 0) * self._frame

    def push(self, probabilities: Iterable[float]) -> list[Span]:
        spans: list[Span] = []
        for probability in probabilities:
            self._update_run(float(probability))
            spans += self._completed_spans()
        return spans

    def finish(self, total_samples: int) -> list[Span]:
        """The last spans, once the recording has ended."""
        if self._run_start is not None:
            self._end_run(self._frames_seen if self._silence_start is None else self._silence_start)
        spans = self._emit(len(self._runs))
        return [Span(span.start, min(span.end, total_samples)) for span in spans]

    def _update_run(self, probability: float) -> None:
        """Follow runs of speech, with hysteresis."""
        frame = self._frames_seen
        self._frames_seen += 1
        if self._run_start is None:
            if probability >= self._options.threshold:
                self._run_start, self._silence_start, self._run_probabilities = frame, None, [probability]
            return
        self._run_probabilities.append(probability)
        if probability >= self._options.threshold:
            self._silence_start = None
        elif self._silence_start is None and probability < self._options.end_threshold:
            self._silence_start = frame
        if self._silence_start is not None and self._frames_seen - self._silence_start >= self._frames(
            self._options.pause
        ):
            self._end_run(self._silence_start)

    def _end_run(self, end: int) -> None:
        if self._run_start is not None and end - self._run_start >= self._frames(self._options.min_speech):
            self._runs.append((self._run_start, end))
        self._run_start = self._silence_start = None

    def _completed_spans(self) -> list[Span]:
        """Cut when a long silence ends the chunk, or when speech outgrows the window."""
        if self._run_start is None:
            if self._runs and self._frames_seen - self._runs[-1][1] > self._frames(self._options.max_pause):
                return self._emit(len(self._runs))
            return []
        first = self._runs[0][0] if self._runs else self._run_start
        if self._frames_seen - first <= self._room:
            return []
        if self._runs:
            return self._emit(self._best_pause(first))
        return self._split()

    def _best_pause(self, first: int) -> int:
        """How many runs to give: up to the longest of the late pauses, else up to the last pause."""
        starts = [start for start, _ in self._runs[1:]] + [self._run_start or self._frames_seen]
        late = [
            (start - end, count)
            for count, ((_, end), start) in enumerate(zip(self._runs, starts, strict=True), 1)
            if end - first >= self._frames(self._options.prefer_after)
        ]
        return max(late)[1] if late else len(self._runs)

    def _split(self) -> list[Span]:
        """Speech without any pause fills the window: cut at the least likely moment of its latter part."""
        begun = self._run_start or 0
        half = len(self._run_probabilities) // 2
        late = np.asarray(self._run_probabilities[half:])
        # over five frames (0.16 s): a dip between words, not a single odd frame
        smooth = np.convolve(late, np.ones(5) / 5, mode="same")
        smooth[:2] = smooth[-2:] = np.inf
        at = half + int(np.argmin(smooth))
        span = self._span(begun, begun + at, following=begun + at)
        self._run_start, self._run_probabilities = begun + at, self._run_probabilities[at:]
        self._silence_start = None
        return [span]

    def _emit(self, count: int) -> list[Span]:
        """The first runs as one span; what is left may begin the next."""
        if not count:
            return []
        given, self._runs = self._runs[:count], self._runs[count:]
        following = self._runs[0][0] if self._runs else self._run_start
        return [self._span(given[0][0], given[-1][1], following)]

    def _span(self, start: int, end: int, following: int | None) -> Span:
        """With padding on both sides; neighbours share a short pause by halves."""
        start = max(self._last_end, start - self._padding)
        end = end + self._padding if following is None else min(end + self._padding, (end + following) // 2)
        self._last_end = end
        return Span(start * self._frame, end * self._frame)


class Chunker:
    """Cuts one channel while it is being decoded; holds little more than one window of audio."""

    def __init__(self, detector: VoiceDetector, options: ChunkingOptions | None = None) -> None:
        self._detector = detector
        self._planner = ChunkPlanner(detector.frame_samples, options)
        self._buffer: Samples = np.zeros(0, np.float32)
        self._buffer_start = 0
        """Place of the first held sample in the recording."""

    def push(self, block: Samples) -> list[tuple[int, Samples]]:
        """(start, samples) of the chunks whose end is decided with this block."""
        self._buffer = np.concatenate([self._buffer, block])
        pieces = self._extract(self._planner.push(self._detector.push(block)))
        drop = min(self._planner.needed_from - self._buffer_start, len(self._buffer))
        self._buffer, self._buffer_start = self._buffer[drop:], self._buffer_start + drop
        return pieces

    def finish(self) -> list[tuple[int, Samples]]:
        """The last chunks, once the recording has ended."""
        spans = self._planner.push(self._detector.flush())
        spans += self._planner.finish(self._buffer_start + len(self._buffer))
        return self._extract(spans)

    def _extract(self, spans: list[Span]) -> list[tuple[int, Samples]]:
        return [
            (s.start, self._buffer[s.start - self._buffer_start : s.end - self._buffer_start].copy())
            for s in spans
        ]


def cut(
    blocks: Iterable[Samples], detector: VoiceDetector, options: ChunkingOptions | None = None
) -> Iterator[Chunk]:
    """The chunks of a recording, while it is being decoded."""
    return _number_chunks((block[None] for block in blocks), [Chunker(detector, options)], split=False)


def cut_channels(
    blocks: Iterable[NDArray[np.float32]], model: VoiceModel, channels: int, options: ChunkingOptions | None = None
) -> Iterator[Chunk]:
    """The chunks of each channel of blocks (channels, samples), numbered as they are decided."""
    return _number_chunks(blocks, [Chunker(model.stream(), options) for _ in range(channels)], split=True)


def _number_chunks(
    blocks: Iterable[NDArray[np.float32]], chunkers: Sequence[Chunker], *, split: bool
) -> Iterator[Chunk]:
    index = count()
    for block in blocks:
        for channel, (chunker, samples) in enumerate(zip(chunkers, block, strict=True)):
            for start, piece in chunker.push(samples):
                yield Chunk(next(index), start, piece, channel if split else None)
    for channel, chunker in enumerate(chunkers):
        for start, piece in chunker.finish():
            yield Chunk(next(index), start, piece, channel if split else None)
