"""Two voice detectors as one: the first everywhere, and the second in the first's long silences.

Silero follows near voices closely and is deaf to quiet, far ones; pyannote's segmentation hears those. Where the
first hears anybody the second is not asked: what is cut there does not change by it, and it costs nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from speech.audio.chunking import Cutting
from speech.engines import SAMPLE_RATE, Samples, VoiceDetector, VoiceModel

CUTTING = Cutting()
BEGINS, ENDS = CUTTING.threshold, CUTTING.release
"""Probabilities at which the first begins to hear somebody, and no longer does: those that chunks are cut by."""
APART = CUTTING.longest_pause
"""Seconds on either side of the first's speech that are left to it: as much silence ends a chunk anyway."""
MARGIN = 0.25
"""How much surer the second must be. Measured: below it, noise of a meeting room passes for speech."""

Probabilities = NDArray[np.float32]
NONE: Probabilities = np.zeros(0, np.float32)


class EitherVad:
    """Any number of streams share the two models."""

    def __init__(self, first: VoiceModel, second: VoiceModel) -> None:
        self.first, self._second = first, second

    def stream(self) -> VoiceDetector:
        return EitherStream(self.first.stream(), self._second)


class EitherStream:
    """Frames are those of the first detector; within silence they come when the second has judged them."""

    def __init__(self, first: VoiceDetector, second: VoiceModel) -> None:
        self._first, self._second = first, second
        self.frame_samples = first.frame_samples
        self._waiting: Samples = np.zeros(0, np.float32)
        """Samples that the first has not judged yet."""
        self._silence = _Silence(second.stream(), first.frame_samples, opens=True)
        self._hearing = False

    def push(self, samples: Samples) -> Probabilities:
        return self._take(np.concatenate([self._waiting, samples]), self._first.push(samples))

    def flush(self) -> Probabilities:
        given = self._take(self._waiting, self._first.flush())
        return np.concatenate([given, self._silence.end(closes=True)])

    def _take(self, samples: Samples, heard: Probabilities) -> Probabilities:
        """Share the frames that the first has judged among stretches of speech and of silence."""
        self._waiting = samples[len(heard) * self.frame_samples :]
        given = []
        speech = self._speech(heard)
        edges = np.flatnonzero(np.diff(speech)) + 1
        for first, last in zip([0, *edges], [*edges, len(heard)], strict=True):
            piece = samples[first * self.frame_samples : last * self.frame_samples]
            if first < last and speech[first]:
                given += [self._silence.end(), heard[first:last]]
                self._silence = _Silence(self._second.stream(), self.frame_samples)
            else:
                given.append(self._silence.push(piece, heard[first:last]))
        return np.concatenate(given)

    def _speech(self, heard: Probabilities) -> NDArray[np.bool_]:
        """Which frames are speech to the first."""
        said = np.concatenate([[self._hearing], heard >= BEGINS])
        decided = np.concatenate([[True], (heard >= BEGINS) | (heard < ENDS)])
        speech: NDArray[np.bool_] = said[np.maximum.accumulate(np.where(decided, np.arange(len(said)), 0))]
        self._hearing = bool(speech[-1])
        return speech[1:]


class _Silence:
    """One stretch in which the first hears nobody, as the second hears it."""

    def __init__(self, detector: VoiceDetector, frame_samples: int, *, opens: bool = False) -> None:
        """``opens``: the recording begins with it."""
        self._detector = detector
        self._ratio = frame_samples / detector.frame_samples
        self._apart = round(APART * SAMPLE_RATE / frame_samples)
        self._first, self._second = NONE, NONE
        """What either said from the first frame on that is still to be given out."""
        self._given = 0
        self._dropped = 0
        """Frames of the first that were given out, and of the second that were dropped."""
        self._from = 0 if opens else self._apart
        """The first frame on which the second is asked."""
        self._unheard: list[Samples] = []
        """Samples kept from the second while the silence may turn out too short to ask it."""

    def push(self, samples: Samples, heard: Probabilities) -> Probabilities:
        """The frames that are decided: not those which speech may still follow too closely."""
        self._first = np.concatenate([self._first, heard])
        self._unheard.append(samples)
        if self._given + len(self._first) <= self._from + self._apart:
            return NONE
        self._listen()
        return self._give(len(self._first) - self._apart)

    def end(self, *, closes: bool = False) -> Probabilities:
        """The rest; ``closes``: the recording ends with it."""
        apart = 0 if closes else self._apart
        if self._given + len(self._first) > self._from + apart:
            self._listen()
            self._second = np.concatenate([self._second, self._detector.flush()])
        given = self._give(len(self._first) - apart)
        return np.concatenate([given, self._first])

    def _listen(self) -> None:
        for samples in self._unheard:
            self._second = np.concatenate([self._second, self._detector.push(samples)])
        self._unheard = []

    def _give(self, most: int) -> Probabilities:
        """Up to so many frames, if the second has judged them."""
        frames = self._given + np.arange(max(0, most))
        # the second's frame at the middle of each of ours
        places = ((frames + 0.5) * self._ratio).astype(np.int64) - self._dropped
        ready = int(np.searchsorted(places, len(self._second)))
        if not ready:
            return NONE
        judged = np.maximum(self._first[:ready], self._second[places[:ready]] - MARGIN)
        judged[: max(0, self._from - self._given)] = self._first[: max(0, self._from - self._given)][:ready]
        drop = int(places[ready - 1])
        self._given, self._dropped = self._given + ready, self._dropped + drop
        self._first, self._second = self._first[ready:], self._second[drop:]
        return np.asarray(judged, np.float32)
