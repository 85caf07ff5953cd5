"""Where the seconds of a chunk lie in its recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from speech.text.words import Hypothesis, Phrase, Word


@dataclass(frozen=True, slots=True)
class Timeline:
    """The stretches that a chunk consists of, (start, end) in seconds of the recording, one behind the other."""

    stretches: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, stretches: Iterable[Iterable[float]]) -> Timeline:
        return cls(tuple((float(start), float(end)) for start, end in stretches))

    @property
    def start(self) -> float:
        return self.stretches[0][0]

    @property
    def end(self) -> float:
        return self.stretches[-1][1]

    @property
    def seconds(self) -> float:
        """The chunk's own length."""
        return sum(end - start for start, end in self.stretches)

    def in_recording(self, start: float, end: float) -> list[tuple[float, float]]:
        """The pieces of the recording that a span of the chunk consists of; at least one, if only a point."""
        pieces = [
            (first + max(start - at, 0.0), first + min(end - at, last - first))
            for at, (first, last) in self._placed()
            if start < at + last - first and end > at
        ]
        return pieces or [(point := self._point(start), point)]

    def in_chunk(self, start: float, end: float) -> list[tuple[float, float]]:
        """The pieces of the chunk that hold something of a span of the recording."""
        return [
            (at + max(start, first) - first, at + min(end, last) - first)
            for at, (first, last) in self._placed()
            if start < last and end > first
        ]

    def divides(self, before: float, after: float) -> bool:
        """Whether something was left out between two times of the recording."""
        return any(before < start <= after for start, _ in self.stretches[1:])

    def place(self, hypothesis: Hypothesis) -> Hypothesis:
        """The hypothesis in seconds of the recording. No word spans what was left out."""
        return replace(hypothesis, phrases=tuple(map(self._place_phrase, hypothesis.phrases)))

    def lift(self, hypothesis: Hypothesis) -> Hypothesis:
        """The opposite of :meth:`place`: in seconds of the chunk."""
        return replace(hypothesis, phrases=tuple(map(self._lift_phrase, hypothesis.phrases)))

    def _lift_phrase(self, phrase: Phrase) -> Phrase:
        words = tuple(
            replace(word, start=self._moment(word.start), end=self._moment(word.end)) for word in phrase.words
        )
        return replace(phrase, start=self._moment(phrase.start), end=self._moment(phrase.end), words=words)

    def _moment(self, seconds: float) -> float:
        """The time of the chunk at a time of the recording; where that was left out, the next one that was not."""
        for at, (start, end) in self._placed():
            if seconds <= end:
                return at + max(seconds - start, 0.0)
        return self.seconds

    def _place_phrase(self, phrase: Phrase) -> Phrase:
        pieces = self.in_recording(phrase.start, phrase.end)
        words = tuple(map(self._place_word, phrase.words))
        return replace(phrase, start=pieces[0][0], end=pieces[-1][1], words=words)

    def _place_word(self, word: Word) -> Word:
        """In the stretch that holds most of it."""
        start, end = max(self.in_recording(word.start, word.end), key=lambda piece: piece[1] - piece[0])
        return replace(word, start=start, end=end)

    def _placed(self) -> Iterator[tuple[float, tuple[float, float]]]:
        """Where each stretch begins in the chunk, and the stretch."""
        at = 0.0
        for start, end in self.stretches:
            yield at, (start, end)
            at += end - start

    def _point(self, seconds: float) -> float:
        """The time of the recording at a time of the chunk, clamped to it."""
        for at, (start, end) in self._placed():
            if seconds < at + end - start:
                return start + max(seconds - at, 0.0)
        return self.end
