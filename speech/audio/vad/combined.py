"""Two voice detectors as one: the first everywhere, and the second in the first's long silences.

Silero detects near voices precisely and misses quiet, distant ones, which pyannote's segmentation detects. The
second detector does not run where the first detects speech: it would not change the cuts there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from speech.audio.chunking import ChunkingOptions
from speech.engines import SAMPLE_RATE, Samples, VoiceDetector, VoiceModel

CHUNKING = ChunkingOptions()
ONSET, OFFSET = CHUNKING.onset, CHUNKING.offset
"""Probabilities at which speech begins and ends for the first detector: those that chunks are cut by."""
GUARD_SECONDS = 3.0
"""On either side of the first detector's speech the second is ignored, so that it does not blur the pauses."""
MARGIN = 0.25
"""Subtracted from the second detector's probability: with less, noise of a meeting room passed for speech."""

Probabilities = NDArray[np.float32]
NO_FRAMES: Probabilities = np.zeros(0, np.float32)


class CombinedVad:
    """Any number of streams share the two models."""

    def __init__(self, first: VoiceModel, second: VoiceModel) -> None:
        self.first, self._second = first, second

    def stream(self) -> VoiceDetector:
        return CombinedStream(self.first.stream(), self._second)


class CombinedStream:
    """Frames are those of the first detector; in silence they are delayed until the second has processed them."""

    def __init__(self, first: VoiceDetector, second: VoiceModel) -> None:
        self._first, self._second = first, second
        self.frame_samples = first.frame_samples
        self._pending: Samples = np.zeros(0, np.float32)
        """Samples that the first detector has not processed yet."""
        self._silence = _Silence(second.stream(), first.frame_samples, at_start=True)
        self._in_speech = False

    def push(self, samples: Samples) -> Probabilities:
        return self._process(np.concatenate([self._pending, samples]), self._first.push(samples))

    def flush(self) -> Probabilities:
        probabilities = self._process(self._pending, self._first.flush())
        return np.concatenate([probabilities, self._silence.end(at_end=True)])

    def _process(self, samples: Samples, probabilities: Probabilities) -> Probabilities:
        """Divide the first detector's new frames into stretches of speech and of silence."""
        self._pending = samples[len(probabilities) * self.frame_samples :]
        output = []
        speech = self._speech_frames(probabilities)
        edges = np.flatnonzero(np.diff(speech)) + 1
        for start, end in zip([0, *edges], [*edges, len(probabilities)], strict=True):
            stretch = samples[start * self.frame_samples : end * self.frame_samples]
            if start < end and speech[start]:
                output += [self._silence.end(), probabilities[start:end]]
                self._silence = _Silence(self._second.stream(), self.frame_samples)
            else:
                output.append(self._silence.push(stretch, probabilities[start:end]))
        return np.concatenate(output)

    def _speech_frames(self, probabilities: Probabilities) -> NDArray[np.bool_]:
        """Which frames are speech for the first detector, with hysteresis."""
        is_onset = np.concatenate([[self._in_speech], probabilities >= ONSET])
        is_decided = np.concatenate([[True], (probabilities >= ONSET) | (probabilities < OFFSET)])
        last_decided = np.maximum.accumulate(np.where(is_decided, np.arange(len(is_onset)), 0))
        speech: NDArray[np.bool_] = is_onset[last_decided]
        self._in_speech = bool(speech[-1])
        return speech[1:]


class _Silence:
    """One stretch of the first detector's silence, in which the second one may detect speech."""

    def __init__(self, detector: VoiceDetector, frame_samples: int, *, at_start: bool = False) -> None:
        """``at_start``: the recording begins with it."""
        self._detector = detector
        self._ratio = frame_samples / detector.frame_samples
        self._guard_frames = round(GUARD_SECONDS * SAMPLE_RATE / frame_samples)
        self._first, self._second = NO_FRAMES, NO_FRAMES
        """Probabilities of both detectors from the first frame on that has not been returned."""
        self._returned = 0
        self._dropped = 0
        """Frames of the first detector that were returned, and of the second that were dropped."""
        self._start = 0 if at_start else self._guard_frames
        """The first frame in which the second detector counts."""
        self._buffered: list[Samples] = []
        """Samples kept from the second detector while the silence may be too short for it."""

    def push(self, samples: Samples, probabilities: Probabilities) -> Probabilities:
        """The frames that are decided: not those within the guard of speech that may follow."""
        self._first = np.concatenate([self._first, probabilities])
        self._buffered.append(samples)
        if self._returned + len(self._first) <= self._start + self._guard_frames:
            return NO_FRAMES
        self._run_second()
        return self._combine(len(self._first) - self._guard_frames)

    def end(self, *, at_end: bool = False) -> Probabilities:
        """The rest; ``at_end``: the recording ends with it."""
        guard = 0 if at_end else self._guard_frames
        if self._returned + len(self._first) > self._start + guard:
            self._run_second()
            self._second = np.concatenate([self._second, self._detector.flush()])
        combined = self._combine(len(self._first) - guard)
        return np.concatenate([combined, self._first])

    def _run_second(self) -> None:
        for samples in self._buffered:
            self._second = np.concatenate([self._second, self._detector.push(samples)])
        self._buffered = []

    def _combine(self, max_frames: int) -> Probabilities:
        """Up to ``max_frames`` frames, as far as the second detector has processed them."""
        frames = self._returned + np.arange(max(0, max_frames))
        # the second detector's frame at the middle of each frame of the first
        positions = ((frames + 0.5) * self._ratio).astype(np.int64) - self._dropped
        ready = int(np.searchsorted(positions, len(self._second)))
        if not ready:
            return NO_FRAMES
        combined = np.maximum(self._first[:ready], self._second[positions[:ready]] - MARGIN)
        guarded = max(0, self._start - self._returned)
        combined[:guarded] = self._first[:guarded][:ready]
        drop = int(positions[ready - 1])
        self._returned, self._dropped = self._returned + ready, self._dropped + drop
        self._first, self._second = self._first[ready:], self._second[drop:]
        return np.asarray(combined, np.float32)
