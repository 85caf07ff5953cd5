"""Which languages Whisper detects in encoder output, and in which spans of an utterance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import ctranslate2
import numpy as np
from numpy.typing import NDArray

from speech.asr.whisper.encoder_output import from_numpy
from speech.asr.whisper.language_changes import (
    FINE_PER_SECTION,
    LanguageProbabilities,
    find_boundaries,
    group_runs,
    most_likely_path,
)

SECTION_SECONDS = 3.0
"""Length of the sections that are classified one by one: shorter ones are unreliable."""

MIN_OTHER_LANGUAGE_SECONDS = 2.0
"""A shorter span in another language cannot be told from an accent."""

MIN_SPAN_SECONDS = 1.0
"""A shorter span is not decoded by itself: Whisper hallucinates on audio with hardly any speech."""

MIN_PROBABILITY_RATIO = 7.0
"""A run is worth decoding in another language if that is so many times as probable as the expected one."""

QUIET_FRAMES = 20
"""Length of the quiet stretch that a cut is placed in."""


@dataclass(frozen=True, slots=True)
class LanguageSpan:
    """Frames ``start`` to ``end`` (exclusive) of an utterance."""

    start: int
    end: int
    is_other_language: bool
    """Whether they seem to be in another language than the expected one."""


class LanguageClassifier:
    """Language detection with a Whisper model. Thread-safe."""

    def __init__(self, model: ctranslate2.models.Whisper, frames_per_second: int) -> None:
        self._model = model
        self._fps = frames_per_second

    def probabilities(self, encoded: Any) -> list[dict[str, float]]:
        """The probability of each language for each member of an encoded batch."""
        return [
            {token[2:-2]: probability for token, probability in result}
            for result in self._model.detect_language(encoded)
        ]

    def find_spans(
        self, encoded: Any, positions: NDArray[Any], features: NDArray[np.float32], expected: str
    ) -> list[LanguageSpan]:
        """Where one utterance of an encoded batch seems to be in another language than expected.

        ``positions`` is the utterance's encoder output, shape (positions, dimensions). It is cut into sections, so
        this costs one decoder step for each, not one encoder pass. ``features`` show where to cut: where it is
        quiet. Spans in another language need detection of their own.
        """
        bands, frames = features.shape
        count = round(frames / self._fps / SECTION_SECONDS)
        if count < 2:
            return [LanguageSpan(0, frames, is_other_language=False)]
        # one encoder position for two frames; an array as wide as there are bands would be taken for features
        positions = positions[: frames // 2]
        width = len(positions) // count
        width -= width == bands
        languages, probabilities = self._section_probabilities(encoded, positions, width, count)
        expected_column = languages.index(expected)
        path = most_likely_path(probabilities, expected_column)
        for run in group_runs(path):
            if run.language != expected_column:
                run_positions = positions[None, run.start * width : run.end * width]
                (of_run,) = self.probabilities(from_numpy(run_positions, like=encoded))
                if of_run[languages[run.language]] < MIN_PROBABILITY_RATIO * of_run[expected]:
                    path[run.start : run.end] = expected_column
        runs = group_runs(path)
        if len(runs) == 1:
            return [LanguageSpan(0, frames, is_other_language=False)]
        _, fine = self._section_probabilities(
            encoded, positions, width // FINE_PER_SECTION, count * FINE_PER_SECTION
        )
        length = frames / (count * FINE_PER_SECTION)
        edges = [
            0,
            *(
                _quietest_frame(features, round(boundary * length), round(length / 2))
                for boundary in find_boundaries(runs, fine)
            ),
            frames,
        ]
        spans = [
            LanguageSpan(start, end, run.language != expected_column)
            for (start, end), run in zip(pairwise(edges), runs, strict=True)
        ]
        return merge_short_spans(spans, self._fps)

    def _section_probabilities(
        self, encoded: Any, positions: NDArray[Any], width: int, count: int
    ) -> tuple[list[str], LanguageProbabilities]:
        """The languages, and their probabilities in ``count`` sections of ``width`` positions."""
        sections = positions[: count * width].reshape(count, width, -1)
        results = self.probabilities(from_numpy(sections, like=encoded))
        languages = sorted(results[0])
        return languages, np.array([[result[language] for language in languages] for result in results])


def merge_short_spans(spans: Sequence[LanguageSpan], frames_per_second: int) -> list[LanguageSpan]:
    """Without spans in another language that may be an accent, and without short spans between two such spans."""
    min_frames = MIN_SPAN_SECONDS * frames_per_second
    merged: list[LanguageSpan] = []
    for span in spans:
        length = span.end - span.start
        long_enough = length >= MIN_OTHER_LANGUAGE_SECONDS * frames_per_second
        span = replace(span, is_other_language=span.is_other_language and long_enough)
        last = merged[-1] if merged else None
        if last and not span.is_other_language and (not last.is_other_language or length < min_frames):
            merged[-1] = replace(last, end=span.end)
        elif last and span.is_other_language and not last.is_other_language and last.end - last.start < min_frames:
            merged[-1] = replace(span, start=last.start)
        else:
            merged.append(span)
    return merged


def _quietest_frame(features: NDArray[np.float32], around: int, reach: int) -> int:
    """The middle of the quietest fifth of a second within ``reach`` frames of ``around``."""
    first = max(around - reach, 0)
    loudness = features[:, first : around + reach].mean(axis=0)
    return first + QUIET_FRAMES // 2 + int(np.convolve(loudness, np.ones(QUIET_FRAMES), mode="valid").argmin())
