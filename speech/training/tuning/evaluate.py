"""Error rates of a model on clips, decoded as when it serves, and whether one wins over another by chance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rapidfuzz.distance import Levenshtein

from speech.asr.sensevoice.base import LANGUAGE_IDS, SenseVoice
from speech.asr.sensevoice.hypothesis import build_hypothesis
from speech.engines import SAMPLE_RATE, Samples, Utterance
from speech.text.script import join_words, normalise
from speech.training.tuning.data import Clip, read_audio

UNSPACED_LANGUAGES = {"zh", "yue", "ja"}
"""Written without spaces, before which Whisper writes none either."""
COUNTED_IN_CHARACTERS = UNSPACED_LANGUAGES | {"th", "lo", "km", "my", "bo"}
"""Spaces are not between their words: word errors are not counted."""
WITH_ITN = "<|withitn|>"

BOOTSTRAP_ROUNDS = 2000
MIN_COMPARED = 20
MIN_DECODED = 6
"""With less, resamples tell nothing: of a single clip or window, all are alike."""

AudioReader = Callable[[Path], Samples]
Transcribed = tuple[Clip, str]


@dataclass(slots=True)
class EditCounts:
    """Edits and reference length of a whole set: its error rate is not the mean over its clips."""

    edits: int = 0
    length: int = 0

    def add(self, reference: Sequence[str], hypothesis: Sequence[str]) -> int:
        """Returns the edits of this clip."""
        edits = Levenshtein.distance(reference, hypothesis)
        self.edits += edits
        self.length += len(reference)
        return edits

    @property
    def rate(self) -> float | None:
        """None where the references are empty."""
        return self.edits / self.length if self.length else None


@dataclass(frozen=True, slots=True)
class Score:
    """Error rates from 0; ``wer`` covers the languages that write words apart, None where there are none."""

    cer: float | None
    wer: float | None
    edits: Mapping[str, int] = field(default_factory=dict)
    """Of each clip, by its key: in words, or in characters where there are no spaces."""
    rate: float | None = None
    """These edits over the references' lengths in the same units."""
    decoded: Mapping[str, int] = field(default_factory=dict)
    """Edits of what was decoded at once, one clip or several, by the key of the first of them."""


def score(decoded: Iterable[Sequence[Transcribed]]) -> Score:
    """Of clips that were decoded together, or by themselves. Ignores case and punctuation."""
    characters, words, units = EditCounts(), EditCounts(), EditCounts()
    edits, together = {}, {}
    for group in decoded:
        for clip, text in group:
            characters.add(normalise(clip.text), normalise(text))
            if clip.language_code in COUNTED_IN_CHARACTERS:
                edits[clip.key] = units.add(normalise(clip.text), normalise(text))
            else:
                words.add(_words(clip.text), _words(text))
                edits[clip.key] = units.add(_words(clip.text), _words(text))
        keys = sorted(clip.key for clip, _ in group)
        together[keys[0]] = sum(edits[key] for key in keys)
    return Score(characters.rate, words.rate, edits, units.rate, together)


def chance(before: Score, after: Score, *, seed: int = 7) -> float:
    """The share of resamples in which the second model makes no fewer edits than the first.

    What was decoded at once is drawn at once: a loop is in all of its clips. 1 where there are fewer than
    ``MIN_COMPARED`` clips, or they were decoded in fewer than ``MIN_DECODED``.
    """
    gains = np.array([edits - after.decoded[key] for key, edits in sorted(before.decoded.items())])
    if len(before.edits) < MIN_COMPARED or len(gains) < MIN_DECODED:
        return 1.0
    drawn = np.random.default_rng(seed).multinomial(
        len(gains), np.full(len(gains), 1 / len(gains)), BOOTSTRAP_ROUNDS
    )
    return float((drawn @ gains <= 0).mean())


def transcribe_sensevoice(
    engine: SenseVoice, clips: Sequence[Clip], *, read: AudioReader = read_audio
) -> Iterator[list[Transcribed]]:
    """The clips with their texts, each by itself. Holds the audio of one batch in memory at a time."""
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
                yield [(clip, join_words(word for phrase in phrases for word in phrase.words))]


def divide(text: str, clips: Sequence[Clip]) -> Iterator[Transcribed]:
    """The clips of one language that were decoded together, each with what of the text is beside its own.

    That is by an alignment of least edits, so the edits of all clips are those of the whole.
    """
    unspaced = clips[0].language_code in COUNTED_IN_CHARACTERS
    heard, *wanted = (
        list(normalise(each)) if unspaced else _words(each) for each in (text, *(clip.text for clip in clips))
    )
    owners = [number for number, units in enumerate(wanted) for _ in units] or [0]
    parts: list[list[str]] = [[] for _ in clips]
    for code in Levenshtein.opcodes([unit for units in wanted for unit in units], heard):
        for offset, unit in enumerate(heard[code.dest_start : code.dest_end]):
            # what nobody said is beside the unit before
            place = code.src_start + offset if code.src_start < code.src_end else code.src_start - 1
            parts[owners[max(place, 0)]].append(unit)
    for clip, units in zip(clips, parts, strict=True):
        yield clip, ("" if unspaced else " ").join(units)


def _words(text: str) -> list[str]:
    return [word for word in map(normalise, text.split()) if word]
