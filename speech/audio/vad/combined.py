"""Two voice activity detectors as one: the first everywhere, the second in the long silences of the first.

Silero is precise on close speech and misses quiet, distant voices; pyannote's segmentation finds those. Where the
first finds speech the second does not run: chunks would be cut the same, and it costs time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from speech.audio.chunking import ChunkingOptions
from speech.engines import SAMPLE_RATE, Samples, VoiceDetector, VoiceModel

OPTIONS = ChunkingOptions()
START_THRESHOLD, END_THRESHOLD = OPTIONS.threshold, OPTIONS.end_threshold
"""Probabilities of the first detector that begin and end speech: those that chunks are cut by."""
GUARD_SECONDS = OPTIONS.max_pause
"""Seconds on either side of the first detector's speech in which the second is ignored."""
SECOND_DETECTOR_MARGIN = 0.25
"""Subtracted from the second detector's probabilities. With less, noise of a meeting room passes for speech."""

Probabilities = NDArray[np.float32]
EMPTY: Probabilities = np.zeros(0, np.float32)


class CombinedVad:
    """Any number of streams share the two models."""

    def __init__(self, first: VoiceModel, second: VoiceModel) -> None:
        self.first, self._second = first, second

    def stream(self) -> VoiceDetector:
        return CombinedStream(self.first.stream(), self._second)


class CombinedStream:
    """Frames are those of the first detector; within its silences they come once the second has processed them."""

    def __init__(self, first: VoiceDetector, second: VoiceModel) -> None:
        self._first, self._second = first, second
        self.frame_samples = first.frame_samples
        self._pending: Samples = np.zeros(0, np.float32)
        """Samples that the first detector has not processed yet."""
        self._silence = _SilenceStretch(second.stream(), first.frame_samples, opens=True)
        self._in_speech = False

    def push(self, samples: Samples) -> Probabilities:
        return self._combine(np.concatenate([self._pending, samples]), self._first.push(samples))

    def flush(self) -> Probabilities:
        output = self._combine(self._pending, self._first.flush())
        return np.concatenate([output, self._silence.end(closes=True)])

    def _combine(self, samples: Samples, probabilities: Probabilities) -> Probabilities:
        """Divide the first detector's frames into stretches of speech and of silence."""
        self._pending = samples[len(probabilities) * self.frame_samples :]
        output = []
        speech = self._is_speech(probabilities)
        edges = np.flatnonzero(np.diff(speech)) + 1
        for first, last in zip([0, *edges], [*edges, len(probabilities)], strict=True):
            piece = samples[first * self.frame_samples : last * self.frame_samples]
            if first < last and speech[first]:
                output += [self._silence.end(), probabilities[first:last]]
                self._silence = _SilenceStretch(self._second.stream(), self.frame_samples)
            else:
                output.append(self._silence.push(piece, probabilities[first:last]))
        return np.concatenate(output)

    def _is_speech(self, probabilities: Probabilities) -> NDArray[np.bool_]:
        """Which frames are speech to the first detector, with hysteresis."""
        above = np.concatenate([[self._in_speech], probabilities >= START_THRESHOLD])
        decided = np.concatenate([[True], (probabilities >= START_THRESHOLD) | (probabilities < END_THRESHOLD)])
        speech: NDArray[np.bool_] = above[np.maximum.accumulate(np.where(decided, np.arange(len(above)), 0))]
        self._in_speech = bool(speech[-1])
        return speech[1:]


class _SilenceStretch:
    """A stretch in which the first detector finds no speech; the second runs on it."""

    def __init__(self, detector: VoiceDetector, frame_samples: int, *, opens: bool = False) -> None:
        """``opens``: whether the recording begins with it."""
        self._detector = detector
        self._ratio = frame_samples / detector.frame_samples
        self._guard = round(GUARD_SECONDS * SAMPLE_RATE / frame_samples)
        self._first, self._second = EMPTY, EMPTY
        """Probabilities of either detector that are not emitted yet."""
        self._emitted = 0
        self._dropped = 0
        """Frames of the first detector that were emitted, and of the second that were dropped."""
        self._from = 0 if opens else self._guard
        """The first frame on which the second detector counts."""
        self._buffered: list[Samples] = []
        """Samples held back from the second detector while the silence may turn out too short for it."""

    def push(self, samples: Samples, first: Probabilities) -> Probabilities:
        """The frames that are decided: not those that speech may still follow within the guard."""
        self._first = np.concatenate([self._first, first])
        self._buffered.append(samples)
        if self._emitted + len(self._first) <= self._from + self._guard:
            return EMPTY
        self._run_second()
        return self._emit(len(self._first) - self._guard)

    def end(self, *, closes: bool = False) -> Probabilities:
        """The rest; ``closes``: whether the recording ends with it."""
        guard = 0 if closes else self._guard
        if self._emitted + len(self._first) > self._from + guard:
            self._run_second()
            self._second = np.concatenate([self._second, self._detector.flush()])
        output = self._emit(len(self._first) - guard)
        return np.concatenate([output, self._first])

    def _run_second(self) -> None:
        for samples in self._buffered:
            self._second = np.concatenate([self._second, self._detector.push(samples)])
        self._buffered = []

    def _emit(self, most: int) -> Probabilities:
        """Up to ``most`` frames, as far as the second detector has processed them."""
        frames = self._emitted + np.arange(max(0, most))
        # the second's frame at the middle of each of ours
        places = ((frames + 0.5) * self._ratio).astype(np.int64) - self._dropped
        ready = int(np.searchsorted(places, len(self._second)))
        if not ready:
            return EMPTY
        combined = np.maximum(self._first[:ready], self._second[places[:ready]] - SECOND_DETECTOR_MARGIN)
        combined[: max(0, self._from - self._emitted)] = self._first[: max(0, self._from - self._emitted)][:ready]
        drop = int(places[ready - 1])
        self._emitted, self._dropped = self._emitted + ready, self._dropped + drop
        self._first, self._second = self._first[ready:], self._second[drop:]
        return np.asarray(combined, np.float32)
