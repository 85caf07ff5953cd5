"""Where the language changes within an utterance, from what each of its sections sounds like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Likely = NDArray[np.floating]
"""Probabilities, shape (sections, languages)."""

CLIP = 4.0
"""Most that a section says for one language against another, a logarithm: pauses say odd things with certainty."""

ENTER = 3.0
"""Evidence that another language than the expected one needs: one section that is sure of it, or several."""

FINER = 3
"""So many fine sections make a section."""


@dataclass(frozen=True, slots=True)
class Run:
    """Sections ``first`` to ``end`` (exclusive) that are most probably in one language, by its column."""

    first: int
    end: int
    language: int


def path_of(likely: Likely, expected: int) -> NDArray[np.intp]:
    """The language of each section, where a change to another than the expected costs (Viterbi)."""
    heard = _evidence(likely)
    languages = np.arange(likely.shape[1])
    cost = np.where(languages == expected, 0.0, ENTER)
    score = heard[0] - cost
    steps = []
    for section in heard[1:]:
        best = int(score.argmax())
        enters = score[best] - cost > score
        steps.append(np.where(enters, best, languages))
        score = np.where(enters, score[best] - cost, score) + section
    path = [int(score.argmax())]
    for step in reversed(steps):
        path.append(int(step[path[-1]]))
    return np.array(path[::-1])


def runs(path: NDArray[np.intp]) -> list[Run]:
    """Sections of one language together."""
    edges = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), len(path)]
    return [Run(first, end, int(path[first])) for first, end in pairwise(edges)]


def cuts(found: Sequence[Run], fine: Likely) -> list[int]:
    """Where to cut between runs, in fine sections: at most two of them from where the sections meet."""
    heard = _evidence(fine)
    places = [0]
    for left, right in pairwise(found):
        edge = right.first * FINER
        first, end = max(edge - 2, places[-1] + 1), min(edge + 2, right.end * FINER - 1)
        gain = heard[first:end, left.language] - heard[first:end, right.language]
        places.append(first + int(np.concatenate([[0.0], gain.cumsum()]).argmax()))
    return places[1:]


def _evidence(likely: Likely) -> Likely:
    heard = np.log(np.maximum(likely, 1e-9))
    clipped: Likely = np.maximum(heard, heard.max(axis=1, keepdims=True) - CLIP)
    return clipped
