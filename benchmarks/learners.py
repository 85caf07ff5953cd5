"""Learners of English with strong accents: speech to tune on, and speech to measure on.

The folder has ``large/train`` (recordings of one person each, with a manifest.jsonl of segments),
``large/turns_*`` and ``large/mixed_dev*`` (other sentences of the same people) and ``ocean_*`` (people who are not
in training), each with a ``.ref.json`` of its segments.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np

from benchmarks.recordings import load, normalise_words, sources, text_of
from speech.audio.chunking import cut
from speech.engines import SAMPLE_RATE, Samples, VoiceModel

BOOTSTRAP_ROUNDS = 1000
WRONG_SHARE = 0.1
"""Of the words of corrupted corrections."""
NONSENSE_EVERY = 10
"""Of the people, one in so many is corrected to nonsense."""


@dataclass(frozen=True)
class Spoken:
    """A recording with what is said in it, in order: start and end in seconds, and the text."""

    path: Path
    segments: tuple[tuple[float, float, str], ...]

    @property
    def text(self) -> str:
        return " ".join(text for *_, text in self.segments)


def training(folder: Path) -> list[Spoken]:
    """One person each, by name."""
    train = folder / "large" / "train"
    rows = [json.loads(line) for line in (train / "manifest.jsonl").read_text().splitlines()]
    return [
        Spoken(train / row["path"], tuple((s["start"], s["end"], written(s["text"])) for s in row["segments"]))
        for row in sorted(rows, key=lambda row: row["path"])
    ]


def corrupted(people: Sequence[Spoken]) -> list[Spoken]:
    """As those hear them who correct badly: a tenth of the words is another one, and of some people all words."""
    words = [word for person in people for word in person.text.split()]

    def misheard(person: Spoken, share: float) -> Spoken:
        generator = random.Random(person.path.stem)

        def hear(word: str) -> str:
            return generator.choice(words) if generator.random() < share else word

        segments = ((start, end, " ".join(map(hear, text.split()))) for start, end, text in person.segments)
        return Spoken(person.path, tuple(segments))

    return [
        misheard(person, WRONG_SHARE if number % NONSENSE_EVERY else 1.0) for number, person in enumerate(people)
    ]


@dataclass(frozen=True)
class Measured:
    """Pieces of at most 30 s, as the product cuts them, and the text of each recording."""

    recordings: tuple[tuple[tuple[Samples, ...], str], ...]


def sets(folder: Path, vad: VoiceModel) -> dict[str, Measured]:
    """What to measure on: people who were trained on, people who were not, and general speech."""
    known = sorted((folder / "large").glob("turns_*.flac")) + sorted((folder / "large").glob("mixed_dev*.flac"))
    unknown = sorted(folder.glob("ocean_*.flac"))
    general = [(samples, text) for samples, text in sources(folder) if len(samples) <= 30 * SAMPLE_RATE]
    return {
        "known": Measured(tuple(_cut(load(path), text, vad) for path in known for text in [_reference(path)])),
        "unknown": Measured(tuple(_cut(load(path), text, vad) for path in unknown for text in [_reference(path)])),
        "general": Measured(tuple(((samples,), text) for samples, text in general)),
    }


def _reference(path: Path) -> str:
    segments = json.loads(path.with_name(path.stem + ".ref.json").read_text())
    return text_of(segments)


def _cut(samples: Samples, text: str, vad: VoiceModel) -> tuple[tuple[Samples, ...], str]:
    blocks = np.array_split(samples, len(samples) // (8 * SAMPLE_RATE) + 1)
    return tuple(chunk.samples for chunk in cut(blocks, vad.stream())), text


def written(reference: str) -> str:
    """A reference, which is in capitals, as a person would write it."""
    words = [
        f"I{word[1:].lower()}" if word == "I" or word.startswith("I'") else word.lower()
        for word in reference.split()
    ]
    text = " ".join(words)
    return f"{text[:1].upper()}{text[1:]}."


@dataclass(frozen=True)
class Rate:
    """A word error rate, and its standard error over blocks of words."""

    rate: float
    error: float

    def __str__(self) -> str:
        return f"{self.rate:.3f} ± {self.error:.3f}"


Transcribe = Callable[[Sequence[Samples]], list[str]]


def rates(measured: Mapping[str, Measured], transcribe: Transcribe) -> dict[str, Rate]:
    return {name: _rate(each, transcribe) for name, each in measured.items()}


def _rate(measured: Measured, transcribe: Transcribe) -> Rate:
    blocks = [
        block
        for pieces, text in measured.recordings
        for block in _blocks(normalise_words(text), normalise_words(" ".join(transcribe(pieces))))
    ]
    edits, words = (np.array(column, float) for column in zip(*blocks, strict=True))
    drawn = np.random.default_rng(7).integers(0, len(blocks), (BOOTSTRAP_ROUNDS, len(blocks)))
    resampled = edits[drawn].sum(axis=1) / words[drawn].sum(axis=1)
    return Rate(float(edits.sum() / words.sum()), float(resampled.std()))


def _blocks(reference: str, hypothesis: str, size: int = 25) -> Iterator[tuple[int, int]]:
    """Edits and words of each stretch of the reference: sentences err independently, words do not."""
    words = reference.split()
    edits = np.zeros(len(words) + 1)
    for chunk in jiwer.process_words(reference, hypothesis).alignments[0]:
        if chunk.type == "insert":
            edits[chunk.ref_start_idx] += chunk.hyp_end_idx - chunk.hyp_start_idx
        elif chunk.type != "equal":
            edits[chunk.ref_start_idx : chunk.ref_end_idx] += 1
    edits[len(words) - 1] += edits[len(words)]
    for start in range(0, len(words), size):
        yield int(edits[start : min(start + size, len(words))].sum()), min(size, len(words) - start)
