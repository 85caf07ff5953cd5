"""The data of a transcript: words, phrases, hypotheses, segments and turns.

Times are float seconds. In an engine they count from the start of the chunk; after
:meth:`Hypothesis.shifted` they count from the start of the recording.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby
from typing import Any


class Source(StrEnum):
    """Where the words of a segment come from."""

    DRAFT = "draft"
    REFINED = "refined"
    HUMAN = "human"


@dataclass(frozen=True, slots=True)
class Word:
    """One word (one character in zh, yue and ja) with its time and a confidence from 0 to 1.

    ``text`` carries no surrounding space; ``glued`` says that no space separates it from the word before.
    """

    text: str
    start: float
    end: float
    confidence: float
    glued: bool = False

    def shifted(self, offset: float) -> Word:
        return replace(self, start=self.start + offset, end=self.end + offset)

    def to_json(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "confidence": round(self.confidence, 3),
            **({"glued": True} if self.glued else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Word:
        return cls(data["text"], data["start"], data["end"], data["confidence"], data.get("glued", False))


def mean_confidence(words: Sequence[Word]) -> float:
    """Zero without words."""
    return sum(word.confidence for word in words) / len(words) if words else 0.0


@dataclass(frozen=True, slots=True)
class Phrase:
    """A timed span of text in one hypothesis: what an engine emits between two timestamps."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    confidence: float = 0.0
    language: str | None = None
    """None where it is the language of its hypothesis."""

    def shifted(self, offset: float) -> Phrase:
        return replace(
            self,
            start=self.start + offset,
            end=self.end + offset,
            words=tuple(word.shifted(offset) for word in self.words),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "text": self.text,
            "confidence": round(self.confidence, 3),
            **({"language": self.language} if self.language else {}),
            "words": [word.to_json() for word in self.words],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Phrase:
        words = tuple(Word.from_json(word) for word in data["words"])
        return cls(data["start"], data["end"], data["text"], words, data["confidence"], data.get("language"))


def speaker_label(number: int) -> str:
    """The label of a speaker of a recording; ``number`` counts from 0."""
    return f"SPEAKER_{number:02d}"


def channel_speaker(channel: int | None) -> str | None:
    """The label of a channel's speaker where channels are transcribed separately, else None."""
    return None if channel is None else speaker_label(channel)


@dataclass(frozen=True, slots=True)
class Turn:
    """A span in which one speaker of the recording talks; ``speaker`` is a label such as ``SPEAKER_00``."""

    start: float
    end: float
    speaker: str


TAGS = ("emotion", "event", "itn", "word_times", "told_terms")


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What one engine transcribed in one chunk. No phrases means that it found no speech.

    ``signals`` are the engine's quality signals, which alignment reads: for Whisper
    ``avg_logprob``, ``no_speech_prob``, ``compression_ratio``, ``temperature``, ``language_probability``.
    """

    language: str | None
    """The main language, or None where the engine gives none."""
    phrases: tuple[Phrase, ...] = ()
    signals: Mapping[str, float] = field(default_factory=dict)
    emotion: str | None = None
    """As in SenseVoice: ``neutral``, ``happy``, ``sad``, ``angry``, ..."""
    event: str | None = None
    """As in SenseVoice: ``speech``, ``bgm``, ``laughter``, ``applause``, ..."""
    itn: bool | None = None
    """Whether numbers are written as digits (inverse text normalisation); None where the engine gives none."""
    word_times: str | None = None
    """What timed the words, where the engine that heard them did not: an aligner, or ``draft``."""
    told_terms: bool | None = None
    """True where the engine was told which terms of the vocabulary might be meant: it has heard none but those."""

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for phrase in self.phrases for word in phrase.words)

    @property
    def by_language(self) -> list[tuple[str | None, tuple[Word, ...]]]:
        """The words in runs of one language."""
        runs = groupby(self.phrases, key=lambda phrase: phrase.language or self.language)
        return [(language, tuple(word for phrase in run for word in phrase.words)) for language, run in runs]

    def shifted(self, offset: float) -> Hypothesis:
        return replace(self, phrases=tuple(phrase.shifted(offset) for phrase in self.phrases))

    def to_json(self) -> dict[str, Any]:
        return {
            "language": self.language,
            "phrases": [phrase.to_json() for phrase in self.phrases],
            "signals": {name: round(value, 4) for name, value in self.signals.items()},
            **{name: value for name in TAGS if (value := getattr(self, name)) is not None},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Hypothesis:
        phrases = tuple(Phrase.from_json(phrase) for phrase in data["phrases"])
        tags = {name: data.get(name) for name in TAGS}
        return cls(data["language"], phrases, data["signals"], **tags)


@dataclass(frozen=True, slots=True)
class Segment:
    """A timed span of the transcript.

    ``index`` is a stable identifier, unique in the job, not a count: ``chunk * SEGMENTS_PER_CHUNK + position in
    the chunk`` (see :func:`segment_index`). It increases with time until a person divides a segment.
    """

    index: int
    chunk: int
    start: float
    end: float
    text: str
    confidence: float
    source: Source
    language: str | None = None
    speaker: str | None = None
    words: tuple[Word, ...] = ()
    version: int = 0
    """Number of the job's event that last changed it; 0 as it was first made."""
    provisional: bool = False
    """Of a draft that final segments are going to replace."""

    def to_json(self) -> dict[str, Any]:
        """The public JSON of a segment, in events and in the transcript."""
        return {
            "index": self.index,
            "chunk": self.chunk,
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "text": self.text,
            "speaker": self.speaker,
            "language": self.language,
            "confidence": round(self.confidence, 3),
            "source": self.source.value,
            "version": self.version,
            **({"provisional": True} if self.provisional else {}),
            "words": [word.to_json() for word in self.words],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Segment:
        words = tuple(Word.from_json(word) for word in data["words"])
        return cls(**{**data, "source": Source(data["source"]), "words": words})


SEGMENTS_PER_CHUNK = 100
"""Segment 3 of chunk 12 has index 1203: chunks finish in any order, so indexes cannot be consecutive."""


def segment_index(chunk: int, position: int) -> int:
    if not 0 <= position < SEGMENTS_PER_CHUNK:
        raise ValueError(f"position {position} is outside a chunk's {SEGMENTS_PER_CHUNK} segments")
    return chunk * SEGMENTS_PER_CHUNK + position
