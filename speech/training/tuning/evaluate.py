"""How many characters and words a model gets wrong on held-out clips, read as they are when it serves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rapidfuzz.distance import Levenshtein

from speech.asr.sensevoice import LANGUAGE_IDS, SenseVoice, hypothesis
from speech.engines import SAMPLE_RATE, Samples, Utterance
from speech.text.script import join_words, normalise
from speech.training.tuning.data import Clip, read_audio

SPACELESS = {"zh", "yue", "ja"}
"""Languages that write no spaces, and so have no word errors to count."""
WITH_ITN = "<|withitn|>"

Read = Callable[[Path], Samples]


@dataclass(slots=True)
class Errors:
    """Edits over the length of what should have been said; of a whole set, not the mean over its clips."""

    edits: int = 0
    length: int = 0

    def add(self, said: Sequence[str], heard: Sequence[str]) -> None:
        self.edits += Levenshtein.distance(said, heard)
        self.length += len(said)

    @property
    def rate(self) -> float | None:
        """None where nothing was to be said."""
        return self.edits / self.length if self.length else None


@dataclass(frozen=True, slots=True)
class Score:
    """Error rates from 0 on; ``wer`` of the clips in languages with spaces, None where there are none."""

    cer: float | None
    wer: float | None


def score(engine: SenseVoice, clips: Sequence[Clip], *, read: Read = read_audio) -> Score:
    """Without case and punctuation. The audio of one of the engine's batches is in memory at a time."""
    characters, words = Errors(), Errors()
    for clip, heard in _heard(engine, clips, read):
        characters.add(normalise(clip.text), normalise(heard))
        if clip.language_code not in SPACELESS:
            words.add(_words(clip.text), _words(heard))
    return Score(characters.rate, words.rate)


def _heard(engine: SenseVoice, clips: Sequence[Clip], read: Read) -> Iterator[tuple[Clip, str]]:
    for itn in (True, False):
        alike = [clip for clip in clips if (clip.itn == WITH_ITN) is itn]
        for start in range(0, len(alike), engine.batch):
            batch = alike[start : start + engine.batch]
            sounds = [read(clip.source) for clip in batch]
            outputs = engine.posteriors(
                [engine.features(Utterance(samples)) for samples in sounds],
                [code if (code := clip.language_code) in LANGUAGE_IDS else "auto" for clip in batch],
                itn,
            )
            for clip, samples, output in zip(batch, sounds, outputs, strict=True):
                tags, tokens = engine.read(output)
                phrases = hypothesis(tokens, tags, duration=len(samples) / SAMPLE_RATE).phrases
                yield clip, join_words(word for phrase in phrases for word in phrase.words)


def _words(text: str) -> list[str]:
    return [word for word in map(normalise, text.split()) if word]
