"""Greedy CTC decoding of SenseVoice's outputs: tags from the queries, tokens from the frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from speech.asr.sensevoice.tokens import TAG_PATTERN, Token, detokenize

QUERY_COUNT = 4
"""Outputs before the first frame: language, emotion, event, and whether numbers are written as digits."""

FRAME_SECONDS = 0.06
"""One encoder frame: six frames of 10 ms."""


@dataclass(frozen=True, slots=True)
class Tags:
    """What the network says of an utterance as a whole."""

    language: str | None = None
    language_probability: float = 0.0
    emotion: str | None = None
    event: str | None = None
    itn: bool | None = None


@dataclass(frozen=True, slots=True)
class Posteriors:
    """The best class of each output and its probability, both of shape (4 queries + frames,)."""

    ids: NDArray[np.int64]
    probabilities: NDArray[np.float32]


def best_classes(logits: NDArray[np.float32]) -> Posteriors:
    """(outputs, classes) to the best class of each output, with its softmax."""
    ids = logits.argmax(axis=1)
    highest = logits[np.arange(len(ids)), ids]
    # the sum includes exp(0) = 1 of the best class itself, so it is never zero
    return Posteriors(ids, 1.0 / np.exp(logits - highest[:, None]).sum(axis=1))


def decode_tags(output: Posteriors, pieces: Sequence[str]) -> Tags:
    """The tags that the four queries give."""
    matches = [TAG_PATTERN.fullmatch(pieces[i]) for i in output.ids[:QUERY_COUNT]]
    language, emotion, event, itn = (match[1] if match else None for match in matches)
    return Tags(
        None if language == "nospeech" else language,
        float(output.probabilities[0]),
        None if emotion in (None, "EMO_UNKNOWN") else emotion.lower(),
        None if event is None else event.lower(),
        None if itn is None else itn == "withitn",
    )


def decode_tokens(output: Posteriors, pieces: Sequence[str], *, blank: int) -> list[Token]:
    """The tokens in the frames after the queries."""
    return [
        Token(pieces[i], max(0.0, (frames[0] - 0.5) * FRAME_SECONDS), confidence)
        for i, frames, confidence in _runs(output, blank)
    ]


def _runs(output: Posteriors, blank: int) -> Iterator[tuple[int, list[int], float]]:
    """Runs of one class over frames, without blanks: (class, its frames, its highest probability)."""
    ids, probabilities = output.ids[QUERY_COUNT:], output.probabilities[QUERY_COUNT:]
    for i, run in groupby(range(len(ids)), key=lambda frame: int(ids[frame])):
        frames = list(run)
        if i != blank:
            yield i, frames, float(probabilities[frames].max())


def decode_text(output: Posteriors, pieces: Sequence[str], *, blank: int) -> str:
    """The raw text with its tags, as FunASR's own decoder writes it."""
    collapsed = [int(i) for i, _ in groupby(output.ids)]
    return detokenize(pieces[i] for i in collapsed if i != blank)
