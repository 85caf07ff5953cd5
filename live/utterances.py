"""Where utterances begin and end, decided frame by frame while the probabilities of speech come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from speech.engines import SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class UtteranceOptions:
    """In seconds, but for the probabilities."""

    prefix_seconds: float = 0.3
    """Sound before speech is detected that belongs to an utterance, so that its first word is whole."""
    hangover_seconds: float = 0.2
    """Silence that is passed on at once; what follows waits for whether speech goes on."""
    pause_seconds: float = 0.45
    """Silence that ends an utterance."""
    long_seconds: float = 12.0
    """From this length on, shorter pauses do."""
    min_speech_seconds: float = 0.09
    """Shorter speech is noise."""
    onset: float = 0.5
    offset: float = 0.35


SHORT_PAUSE_SECONDS = 0.19
STEP_SECONDS = 2.0
"""A long utterance ends at a short pause, that much later at a moment's, and after twice as much anywhere."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Samples ``start`` to ``end`` belong to the current utterance, or begin one."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The current utterance is over; what it consists of was told before."""


Boundary = Heard | Ended


class Endpointer:
    """The result depends on the probabilities alone, not on how they are grouped into calls, but for the grouping
    of what is heard."""

    def __init__(self, frame_samples: int, options: UtteranceOptions | None = None, *, begin: int = 0) -> None:
        """``begin``: the position of the first frame to come, in samples."""
        self._frame_samples, self._options = frame_samples, options or UtteranceOptions()
        self._position = begin
        """Behind the last frame."""
        self._last_end = begin
        """No utterance begins before this."""
        self._onset: int | None = None
        """Where speech began that may turn out to be noise."""
        self._start: int | None = None
        """Where the current utterance began."""
        self._told = begin
        """Up to where the current utterance was told."""
        self._silence: int | None = None
        """Where the silence began that may end it."""

    @property
    def first_needed(self) -> int:
        """No audio before this sample will be told."""
        if self._start is not None:
            return self._told
        begin = self._position if self._onset is None else self._onset
        return max(self._last_end, begin - self._samples(self._options.prefix_seconds))

    @property
    def in_utterance(self) -> bool:
        return self._start is not None

    def push(self, probabilities: Iterable[float]) -> list[Boundary]:
        found: list[Boundary] = []
        for probability in probabilities:
            self._position += self._frame_samples
            if self._start is None:
                self._wait_for_speech(probability)
            if self._start is not None:
                self._listen(probability, found)
        return found

    def flush(self) -> list[Boundary]:
        """End the current utterance, if there is one, with all that was heard."""
        if self._start is None:
            if self._onset is None:
                return []
            # speech too short to be told from noise, but the last that is to be heard
            self._begin()
        found: list[Boundary] = []
        self._tell(self._position, found)
        self._end(found)
        return found

    def drop(self) -> None:
        """Forget the current utterance."""
        self._start = self._onset = self._silence = None
        self._last_end = self._position

    def _wait_for_speech(self, probability: float) -> None:
        if probability < (self._options.offset if self._onset is not None else self._options.onset):
            self._onset = None
        elif self._onset is None:
            self._onset = self._position - self._frame_samples
        if self._onset is not None:
            spoken = self._position - self._onset
            if spoken >= self._samples(self._options.min_speech_seconds):
                self._begin()

    def _begin(self) -> None:
        onset = self._position if self._onset is None else self._onset
        self._start = max(self._last_end, onset - self._samples(self._options.prefix_seconds))
        self._told, self._onset, self._silence = self._start, None, None

    def _listen(self, probability: float, found: list[Boundary]) -> None:
        if probability >= self._options.onset:
            self._silence = None
        elif self._silence is None and probability < self._options.offset:
            self._silence = self._position - self._frame_samples
        if self._silence is None:
            self._tell(self._position, found)
        else:
            hangover = self._silence + self._samples(self._options.hangover_seconds)
            self._tell(min(self._position, hangover), found)
        silent = 0 if self._silence is None else self._position - self._silence
        if silent >= self._pause():
            self._end(found)

    def _pause(self) -> int:
        """The silence that ends the current utterance."""
        length = self._position - (self._start or 0)
        beyond = length / SAMPLE_RATE - self._options.long_seconds
        if beyond < 0:
            return self._samples(self._options.pause_seconds)
        if beyond < STEP_SECONDS:
            return self._samples(min(SHORT_PAUSE_SECONDS, self._options.pause_seconds))
        return self._frame_samples if beyond < 2 * STEP_SECONDS else 0

    def _tell(self, end: int, found: list[Boundary]) -> None:
        if end <= self._told:
            return
        if found and isinstance(found[-1], Heard):
            found[-1] = Heard(found[-1].start, end)
        else:
            found.append(Heard(self._told, end))
        self._told = end

    def _end(self, found: list[Boundary]) -> None:
        found.append(Ended())
        self._last_end = self._told
        self._start = self._silence = None

    @staticmethod
    def _samples(seconds: float) -> int:
        return round(seconds * SAMPLE_RATE)
