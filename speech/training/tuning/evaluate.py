"""Character and word error rates of a model on held-out clips, decoded as when it serves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rapidfuzz.distance import Levenshtein

from speech.asr.sensevoice.base import LANGUAGE_IDS, SenseVoice
from speech.asr.sensevoice.hypothesis import build_hypothesis
from speech.engines import SAMPLE_RATE, Samples, Utterance
from speech.text.script import join_words, normalise
from speech.training.tuning.data import Clip, read_audio

UNSPACED_LANGUAGES = {"zh", "yue", "ja"}
"""Written without spaces: their word errors are not counted."""
WITH_ITN = "<|withitn|>"

AudioReader = Callable[[Path], Samples]


@dataclass(slots=True)
class EditCounts:
    """Edits and reference length of a whole set: its error rate is not the mean over its clips."""

    edits: int = 0
    length: int = 0

    def add(self, reference: Sequence[str], hypothesis: Sequence[str]) -> None:
        self.edits += Levenshtein.distance(reference, hypothesis)
        self.length += len(reference)

    @property
    def rate(self) -> float | None:
        """None where the references are empty."""
        return self.edits / self.length if self.length else None


@dataclass(frozen=True, slots=True)
class Score:
    """Error rates from 0; ``wer`` covers the languages that write spaces, None where there are none."""

    cer: float | None
    wer: float | None


def score(engine: SenseVoice, clips: Sequence[Clip], *, read: AudioReader = read_audio) -> Score:
    """Ignores case and punctuation. Holds the audio of one batch in memory at a time."""
    characters, words = EditCounts(), EditCounts()
    for clip, text in _transcribe(engine, clips, read):
        characters.add(normalise(clip.text), normalise(text))
        if clip.language_code not in UNSPACED_LANGUAGES:
            words.add(_words(clip.text), _words(text))
    return Score(characters.rate, words.rate)


def _transcribe(engine: SenseVoice, clips: Sequence[Clip], read: AudioReader) -> Iterator[tuple[Clip, str]]:
    for itn in (True, False):
        same_itn = [clip for clip in clips if (clip.itn == WITH_ITN) is itn]
        for start in range(0, len(same_itn), engine.batch_size):
            batch = same_itn[start : start + engine.batch_size]
            audio = [read(clip.source) for clip in batch]
            outputs = engine.posteriors(
                [engine.features(Utterance(samples)) for samples in audio],
                [code if (code := clip.language_code) in LANGUAGE_IDS else "auto" for clip in batch],
                itn,
            )
            for clip, samples, output in zip(batch, audio, outputs, strict=True):
                tags, tokens = engine.decode(output)
                phrases = build_hypothesis(tokens, tags, duration=len(samples) / SAMPLE_RATE).phrases
                yield clip, join_words(word for phrase in phrases for word in phrase.words)


def _words(text: str) -> list[str]:
    return [word for word in map(normalise, text.split()) if word]
