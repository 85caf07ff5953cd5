"""Where to cut: speech is gathered into chunks that fill Whisper's window of 30 s, cut in silence.

Cutting decides quality downstream: a chunk that ends inside a word loses it, many short chunks cost a full
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
class Cutting:
    """How to cut; all times in seconds."""

    window: float = 30.0
    """Longest chunk, context included."""
    context: float = 0.4
    """Silence kept on both sides of a chunk's speech."""
    pause: float = 0.3
    """Silence that ends a run of speech."""
    longest_pause: float = 3.0
    """Silence that ends a chunk."""
    shortest: float = 0.1
    """Runs of speech shorter than this are noise."""
    prefer_after: float = 22.0
    """From here on in a chunk, its longest pause is the place to cut."""
    threshold: float = 0.5
    """Probability that begins speech."""
    release: float = 0.35
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

    def __init__(self, frame_samples: int, cutting: Cutting | None = None) -> None:
        self._frame = frame_samples
        self._cutting = cutting or Cutting()
        self._context = self._frames(self._cutting.context)
        self._room = self._frames(self._cutting.window) - 2 * self._context
        self._now = 0
        self._runs: list[tuple[int, int]] = []
        """Finished runs of speech that wait to be cut, in frames."""
        self._begun: int | None = None
        """First frame of the run going on."""
        self._quiet: int | None = None
        """First frame of the silence that may end it."""
        self._heard: list[float] = []
        """Probabilities of the run going on."""
        self._cut = 0
        """End of the last span, in frames: nothing before it is given out again."""

    def _frames(self, seconds: float) -> int:
        return int(seconds * SAMPLE_RATE / self._frame)

    @property
    def needed_from(self) -> int:
        """Samples before this one will not be part of any further span."""
        first = self._runs[0][0] if self._runs else self._begun
        frame = (self._now if first is None else first) - self._context
        return max(self._cut, frame, 0) * self._frame

    def push(self, probabilities: Iterable[float]) -> list[Span]:
        spans: list[Span] = []
        for probability in probabilities:
            self._hear(float(probability))
            spans += self._decide()
        return spans

    def finish(self, total_samples: int) -> list[Span]:
        """The last spans, once the recording has ended."""
        if self._begun is not None:
            self._end_run(self._now if self._quiet is None else self._quiet)
        spans = self._give(len(self._runs))
        return [Span(span.start, min(span.end, total_samples)) for span in spans]

    def _hear(self, probability: float) -> None:
        """Follow runs of speech, with hysteresis."""
        frame = self._now
        self._now += 1
        if self._begun is None:
            if probability >= self._cutting.threshold:
                self._begun, self._quiet, self._heard = frame, None, [probability]
            return
        self._heard.append(probability)
        if probability >= self._cutting.threshold:
            self._quiet = None
        elif self._quiet is None and probability < self._cutting.release:
            self._quiet = frame
        if self._quiet is not None and self._now - self._quiet >= self._frames(self._cutting.pause):
            self._end_run(self._quiet)

    def _end_run(self, end: int) -> None:
        if self._begun is not None and end - self._begun >= self._frames(self._cutting.shortest):
            self._runs.append((self._begun, end))
        self._begun = self._quiet = None

    def _decide(self) -> list[Span]:
        """Cut when a long silence ends the chunk, or when speech outgrows the window."""
        if self._begun is None:
            if self._runs and self._now - self._runs[-1][1] > self._frames(self._cutting.longest_pause):
                return self._give(len(self._runs))
            return []
        first = self._runs[0][0] if self._runs else self._begun
        if self._now - first <= self._room:
            return []
        if self._runs:
            return self._give(self._best_pause(first))
        return self._split()

    def _best_pause(self, first: int) -> int:
        """How many runs to give: up to the longest of the late pauses, else up to the last pause."""
        starts = [start for start, _ in self._runs[1:]] + [self._begun or self._now]
        late = [
            (start - end, count)
            for count, ((_, end), start) in enumerate(zip(self._runs, starts, strict=True), 1)
            if end - first >= self._frames(self._cutting.prefer_after)
        ]
        return max(late)[1] if late else len(self._runs)

    def _split(self) -> list[Span]:
        """Speech without any pause fills the window: cut at the least likely moment of its latter part."""
        begun = self._begun or 0
        half = len(self._heard) // 2
        late = np.asarray(self._heard[half:])
        # over five frames (0.16 s): a dip between words, not a single odd frame
        smooth = np.convolve(late, np.ones(5) / 5, mode="same")
        smooth[:2] = smooth[-2:] = np.inf
        at = half + int(np.argmin(smooth))
        span = self._span(begun, begun + at, following=begun + at)
        self._begun, self._heard = begun + at, self._heard[at:]
        self._quiet = None
        return [span]

    def _give(self, count: int) -> list[Span]:
        """The first runs as one span; what is left may begin the next."""
        if not count:
            return []
        given, self._runs = self._runs[:count], self._runs[count:]
        following = self._runs[0][0] if self._runs else self._begun
        return [self._span(given[0][0], given[-1][1], following)]

    def _span(self, start: int, end: int, following: int | None) -> Span:
        """With context on both sides; neighbours share a short pause by halves."""
        start = max(self._cut, start - self._context)
        end = end + self._context if following is None else min(end + self._context, (end + following) // 2)
        self._cut = end
        return Span(start * self._frame, end * self._frame)


class Cutter:
    """Cuts one channel while it is being decoded; holds little more than one window of audio."""

    def __init__(self, detector: VoiceDetector, cutting: Cutting | None = None) -> None:
        self._detector = detector
        self._planner = ChunkPlanner(detector.frame_samples, cutting)
        self._held: Samples = np.zeros(0, np.float32)
        self._from = 0
        """Place of the first held sample in the recording."""

    def push(self, block: Samples) -> list[tuple[int, Samples]]:
        """(start, samples) of the chunks whose end is decided with this block."""
        self._held = np.concatenate([self._held, block])
        pieces = self._pieces(self._planner.push(self._detector.push(block)))
        drop = min(self._planner.needed_from - self._from, len(self._held))
        self._held, self._from = self._held[drop:], self._from + drop
        return pieces

    def finish(self) -> list[tuple[int, Samples]]:
        """The last chunks, once the recording has ended."""
        spans = self._planner.push(self._detector.flush())
        spans += self._planner.finish(self._from + len(self._held))
        return self._pieces(spans)

    def _pieces(self, spans: list[Span]) -> list[tuple[int, Samples]]:
        return [(s.start, self._held[s.start - self._from : s.end - self._from].copy()) for s in spans]


def cut(blocks: Iterable[Samples], detector: VoiceDetector, cutting: Cutting | None = None) -> Iterator[Chunk]:
    """The chunks of a recording, while it is being decoded."""
    return _numbered((block[None] for block in blocks), [Cutter(detector, cutting)], split=False)


def cut_channels(
    blocks: Iterable[NDArray[np.float32]], model: VoiceModel, channels: int, cutting: Cutting | None = None
) -> Iterator[Chunk]:
    """The chunks of each channel of blocks (channels, samples), numbered as they are decided."""
    return _numbered(blocks, [Cutter(model.stream(), cutting) for _ in range(channels)], split=True)


def _numbered(blocks: Iterable[NDArray[np.float32]], cutters: Sequence[Cutter], *, split: bool) -> Iterator[Chunk]:
    index = count()
    for block in blocks:
        for channel, (cutter, samples) in enumerate(zip(cutters, block, strict=True)):
            for start, piece in cutter.push(samples):
                yield Chunk(next(index), start, piece, channel if split else None)
    for channel, cutter in enumerate(cutters):
        for start, piece in cutter.finish():
            yield Chunk(next(index), start, piece, channel if split else None)
