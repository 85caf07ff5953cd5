"""Where the language changes within an utterance, from what each of its sections sounds like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.floating]
"""Probabilities, shape (sections, languages)."""

MAX_EVIDENCE = 4.0
"""Most that a section says for one language against another, a logarithm: pauses say odd things with certainty."""

SWITCH_COST = 3.0
"""Evidence that another language than the expected one needs: one section that is sure of it, or several."""

FINE_PER_SECTION = 3
"""So many fine sections make a section."""


@dataclass(frozen=True, slots=True)
class Run:
    """Sections ``first`` to ``end`` (exclusive) that are most probably in one language, by its column."""

    first: int
    end: int
    language: int


def most_likely_path(probabilities: Probabilities, expected: int) -> NDArray[np.intp]:
    """The language of each section, where a change to another than the expected costs (Viterbi)."""
    heard = _evidence(probabilities)
    languages = np.arange(probabilities.shape[1])
    cost = np.where(languages == expected, 0.0, SWITCH_COST)
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


def language_runs(path: NDArray[np.intp]) -> list[Run]:
    """Sections of one language together."""
    edges = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), len(path)]
    return [Run(first, end, int(path[first])) for first, end in pairwise(edges)]


def boundaries(found: Sequence[Run], fine: Probabilities) -> list[int]:
    """Where to cut between language_runs, in fine sections: at most two of them from where the sections meet."""
    heard = _evidence(fine)
    places = [0]
    for left, right in pairwise(found):
        edge = right.first * FINE_PER_SECTION
        first, end = max(edge - 2, places[-1] + 1), min(edge + 2, right.end * FINE_PER_SECTION - 1)
        gain = heard[first:end, left.language] - heard[first:end, right.language]
        places.append(first + int(np.concatenate([[0.0], gain.cumsum()]).argmax()))
    return places[1:]


def _evidence(probabilities: Probabilities) -> Probabilities:
    heard = np.log(np.maximum(probabilities, 1e-9))
    clipped: Probabilities = np.maximum(heard, heard.max(axis=1, keepdims=True) - MAX_EVIDENCE)
    return clipped
