"""Which languages Whisper hears in what its encoder has made of an utterance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import ctranslate2
import numpy as np
from numpy.typing import NDArray

from speech.asr.whisper.arrays import to_device_of
from speech.asr.whisper.language_changes import (
    FINE_PER_SECTION,
    Probabilities,
    boundaries,
    language_runs,
    most_likely_path,
)

SECTION_SECONDS = 3.0
"""Seconds over which one language is taken to be spoken: less says little about it."""

MIN_SPAN_SECONDS = 2.0
"""Seconds of another language that can be told from an accent."""

MIN_PIECE_SECONDS = 1.0
"""Seconds below which a piece is not read by itself: Whisper makes up words for what hardly is any speech."""

CANDIDATE_RATIO = 7.0
"""So many times as probable as the one expected, a language is worth listening for."""

QUIET_FRAMES = 20
"""Frames over which silence is looked for."""


@dataclass(frozen=True, slots=True)
class Span:
    """Frames ``first`` to ``end`` (exclusive) of an utterance."""

    first: int
    end: int
    is_other: bool
    """Whether they sound like another language than the expected one."""


class SpanDetector:
    """Asks a Whisper model; any number of threads may."""

    def __init__(self, model: ctranslate2.models.Whisper, frames_per_second: int) -> None:
        self._model = model
        self._fps = frames_per_second

    def languages(self, encoded: Any) -> list[dict[str, float]]:
        """The probability of each language for each member of an encoded batch."""
        return [
            {token[2:-2]: probability for token, probability in found}
            for found in self._model.detect_language(encoded)
        ]

    def spans(
        self, encoded: Any, positions: NDArray[Any], features: NDArray[np.float32], expected: str
    ) -> list[Span]:
        """Where one utterance of an encoded batch seems to be in another language than expected.

        What the encoder made of it, ``positions``, is cut into sections, so this costs a step of the decoder, not
        a pass of the encoder for each; ``features`` say where it is quiet. What is is_other is to be heard again.
        """
        bands, frames = features.shape
        count = round(frames / self._fps / SECTION_SECONDS)
        if count < 2:
            return [Span(0, frames, is_other=False)]
        # the encoder gives a position for two frames; as many of them as there are bands would pass for features
        positions = positions[: frames // 2]
        width = len(positions) // count
        width -= width == bands
        languages, probabilities = self._sections(encoded, positions, width, count)
        expected_column = languages.index(expected)
        path = most_likely_path(probabilities, expected_column)
        for run in language_runs(path):
            if run.language != expected_column:
                together = positions[None, run.first * width : run.end * width]
                (heard,) = self.languages(to_device_of(encoded, together))
                if heard[languages[run.language]] < CANDIDATE_RATIO * heard[expected]:
                    path[run.first : run.end] = expected_column
        found = language_runs(path)
        if len(found) == 1:
            return [Span(0, frames, is_other=False)]
        _, fine = self._sections(encoded, positions, width // FINE_PER_SECTION, count * FINE_PER_SECTION)
        length = frames / (count * FINE_PER_SECTION)
        edges = [
            0,
            *(
                _quietest_frame(features, round(cut * length), round(length / 2))
                for cut in boundaries(found, fine)
            ),
            frames,
        ]
        is_other = [run.language != expected_column for run in found]
        return _drop_short_spans(
            [Span(*ends, flag) for ends, flag in zip(pairwise(edges), is_other, strict=True)], self._fps
        )

    def _sections(
        self, encoded: Any, positions: NDArray[Any], width: int, count: int
    ) -> tuple[list[str], Probabilities]:
        sections = positions[: count * width].reshape(count, width, -1)
        heard = self.languages(to_device_of(encoded, sections))
        languages = sorted(heard[0])
        return languages, np.array(
            [[probabilities[language] for language in languages] for probabilities in heard]
        )


def _drop_short_spans(spans: Sequence[Span], fps: int) -> list[Span]:
    """Without is_other spans that are too short to be told from an accent, and scraps between is_other ones."""
    kept: list[Span] = []
    for span in spans:
        length = span.end - span.first
        span = replace(span, is_other=span.is_other and length >= MIN_SPAN_SECONDS * fps)
        if kept and not span.is_other and (not kept[-1].is_other or length < MIN_PIECE_SECONDS * fps):
            kept[-1] = replace(kept[-1], end=span.end)
        elif (
            kept
            and span.is_other
            and not kept[-1].is_other
            and kept[-1].end - kept[-1].first < MIN_PIECE_SECONDS * fps
        ):
            kept[-1] = replace(span, first=kept[-1].first)
        else:
            kept.append(span)
    return kept


def _quietest_frame(features: NDArray[np.float32], around: int, reach: int) -> int:
    """The frame in the middle of the quietest fifth of a second near another frame."""
    first = max(around - reach, 0)
    loudness = features[:, first : around + reach].mean(axis=0)
    return first + QUIET_FRAMES // 2 + int(np.convolve(loudness, np.ones(QUIET_FRAMES), mode="valid").argmin())
