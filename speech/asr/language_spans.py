"""Which languages Whisper hears in what its encoder has made of an utterance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import ctranslate2
import numpy as np
from numpy.typing import NDArray

from speech.asr.language_changes import FINER, Likely, cuts, path_of, runs

SECTION = 3.0
"""Seconds over which one language is taken to be spoken: less says little about it."""

SHORTEST = 2.0
"""Seconds of another language that can be told from an accent."""

SCRAP = 1.0
"""Seconds below which a piece is not read by itself: Whisper makes up words for what hardly is any speech."""

FAINTLY = 7.0
"""So many times as probable as the one expected, a language is worth listening for."""

QUIET = 20
"""Frames over which silence is looked for."""


@dataclass(frozen=True, slots=True)
class Span:
    """Frames ``first`` to ``end`` (exclusive) of an utterance."""

    first: int
    end: int
    strange: bool
    """Whether they sound like another language than the expected one."""


class Listener:
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
        a pass of the encoder for each; ``features`` say where it is quiet. What is strange is to be heard again.
        """
        bands, frames = features.shape
        count = round(frames / self._fps / SECTION)
        if count < 2:
            return [Span(0, frames, strange=False)]
        # the encoder gives a position for two frames; as many of them as there are bands would pass for features
        positions = positions[: frames // 2]
        width = len(positions) // count
        width -= width == bands
        languages, likely = self._sections(encoded, positions, width, count)
        usual = languages.index(expected)
        path = path_of(likely, usual)
        for run in runs(path):
            if run.language != usual:
                together = positions[None, run.first * width : run.end * width]
                (heard,) = self.languages(placed_like(encoded, together))
                if heard[languages[run.language]] < FAINTLY * heard[expected]:
                    path[run.first : run.end] = usual
        found = runs(path)
        if len(found) == 1:
            return [Span(0, frames, strange=False)]
        _, fine = self._sections(encoded, positions, width // FINER, count * FINER)
        length = frames / (count * FINER)
        edges = [
            0,
            *(_quietest(features, round(cut * length), round(length / 2)) for cut in cuts(found, fine)),
            frames,
        ]
        strange = [run.language != usual for run in found]
        return _worth_reading(
            [Span(*ends, flag) for ends, flag in zip(pairwise(edges), strange, strict=True)], self._fps
        )

    def _sections(self, encoded: Any, positions: NDArray[Any], width: int, count: int) -> tuple[list[str], Likely]:
        sections = positions[: count * width].reshape(count, width, -1)
        heard = self.languages(placed_like(encoded, sections))
        languages = sorted(heard[0])
        return languages, np.array([[likely[language] for language in languages] for likely in heard])


def _worth_reading(spans: Sequence[Span], fps: int) -> list[Span]:
    """Without strange spans that are too short to be told from an accent, and scraps between strange ones."""
    kept: list[Span] = []
    for span in spans:
        length = span.end - span.first
        span = replace(span, strange=span.strange and length >= SHORTEST * fps)
        if kept and not span.strange and (not kept[-1].strange or length < SCRAP * fps):
            kept[-1] = replace(kept[-1], end=span.end)
        elif kept and span.strange and not kept[-1].strange and kept[-1].end - kept[-1].first < SCRAP * fps:
            kept[-1] = replace(span, first=kept[-1].first)
        else:
            kept.append(span)
    return kept


def _quietest(features: NDArray[np.float32], around: int, reach: int) -> int:
    """The frame in the middle of the quietest fifth of a second near another frame."""
    first = max(around - reach, 0)
    loudness = features[:, first : around + reach].mean(axis=0)
    return first + QUIET // 2 + int(np.convolve(loudness, np.ones(QUIET), mode="valid").argmin())


def members(encoded: Any, positions: Sequence[int], count: int) -> Any:
    """Some members of an encoded batch of so many; the batch itself when all are wanted."""
    if len(positions) == count:
        return encoded
    return placed_like(encoded, on_cpu(encoded)[list(positions)])


def on_cpu(encoded: Any) -> NDArray[Any]:
    there = encoded.to_device(ctranslate2.Device.cpu)
    if there.dtype == ctranslate2.DataType.bfloat16:  # which NumPy does not know
        there = there.to(ctranslate2.DataType.float32)
    return np.asarray(there)


def placed_like(encoded: Any, array: NDArray[Any]) -> Any:
    """The array where the encoded batch is, on the CPU or the GPU, and in its type."""
    view = ctranslate2.StorageView.from_array(np.ascontiguousarray(array))
    if view.dtype != encoded.dtype:
        view = view.to(encoded.dtype)
    return view if encoded.device == "cpu" else view.to_device(ctranslate2.Device.cuda)
