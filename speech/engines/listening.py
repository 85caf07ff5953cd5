"""Which languages Whisper hears in what its encoder has made of an utterance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import ctranslate2
import numpy as np
from numpy.typing import NDArray

from speech.engines.switches import FINER, Likely, cuts, path_of, runs

SECTION = 3.0
"""Seconds over which one language is taken to be spoken: less says little about it."""

SHORTEST = 2.0
"""Seconds of another language that can be told from an accent."""

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
        frames = features.shape[-1]
        count = round(frames / self._fps / SECTION)
        if count < 2:
            return [Span(0, frames, strange=False)]
        # the encoder gives a position for two frames
        positions = positions[: frames // 2]
        languages, likely = self._sections(encoded, positions, count)
        usual = languages.index(expected)
        path = path_of(likely, usual)
        width = len(positions) // count
        for run in runs(path):
            if run.language != usual:
                together = positions[None, run.first * width : run.end * width]
                (heard,) = self.languages(placed_like(encoded, together))
                if heard[languages[run.language]] < FAINTLY * heard[expected]:
                    path[run.first : run.end] = usual
        found = runs(path)
        if len(found) == 1:
            return [Span(0, frames, strange=False)]
        _, fine = self._sections(encoded, positions, count * FINER)
        length = frames / (count * FINER)
        edges = [_quietest(features, round(cut * length), round(length / 2)) for cut in cuts(found, fine)]
        spans: list[Span] = []
        for (first, end), run in zip(pairwise([0, *edges, frames]), found, strict=True):
            strange = run.language != usual and end - first >= SHORTEST * self._fps
            if spans and not strange and not spans[-1].strange:
                first = spans.pop().first
            spans.append(Span(first, end, strange))
        return spans

    def _sections(self, encoded: Any, positions: NDArray[Any], count: int) -> tuple[list[str], Likely]:
        width = len(positions) // count
        sections = positions[: count * width].reshape(count, width, -1)
        heard = self.languages(placed_like(encoded, sections))
        languages = sorted(heard[0])
        return languages, np.array([[likely[language] for language in languages] for likely in heard])


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
    return np.asarray(encoded.to_device(ctranslate2.Device.cpu))


def placed_like(encoded: Any, array: NDArray[Any]) -> Any:
    """The array where the encoded batch is: on the CPU or the GPU."""
    view = ctranslate2.StorageView.from_array(np.ascontiguousarray(array))
    return view if encoded.device == "cpu" else view.to_device(ctranslate2.Device.cuda)
