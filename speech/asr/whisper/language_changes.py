"""Where the language changes within an utterance, from the language probabilities of its sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

LanguageProbabilities = NDArray[np.floating]
"""Shape (sections, languages)."""

MAX_LOG_RATIO = 4.0
"""Bounds the log-probability ratio between two languages in one section: in pauses the detection is wrong with
certainty."""

CHANGE_COST = 3.0
"""Log-probability cost of a change to another than the expected language: a certain section outweighs it, or
several less certain ones."""

FINE_PER_SECTION = 3
"""Fine sections in a section."""


@dataclass(frozen=True, slots=True)
class Run:
    """Sections ``start`` to ``end`` (exclusive) that are most probably in one language, given by its column."""

    start: int
    end: int
    language: int


def most_likely_path(probabilities: LanguageProbabilities, expected: int) -> NDArray[np.intp]:
    """The language of each section, where a change to another than the expected one has a cost (Viterbi)."""
    scores = _log_probabilities(probabilities)
    languages = np.arange(probabilities.shape[1])
    cost = np.where(languages == expected, 0.0, CHANGE_COST)
    score = scores[0] - cost
    steps = []
    for section in scores[1:]:
        best = int(score.argmax())
        changes = score[best] - cost > score
        steps.append(np.where(changes, best, languages))
        score = np.where(changes, score[best] - cost, score) + section
    path = [int(score.argmax())]
    for step in reversed(steps):
        path.append(int(step[path[-1]]))
    return np.array(path[::-1])


def group_runs(path: NDArray[np.intp]) -> list[Run]:
    """Consecutive sections of one language as one run."""
    edges = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), len(path)]
    return [Run(start, end, int(path[start])) for start, end in pairwise(edges)]


def find_boundaries(runs: Sequence[Run], fine: LanguageProbabilities) -> list[int]:
    """The boundaries between runs, in fine sections: at most two of them from where the sections meet."""
    scores = _log_probabilities(fine)
    boundaries = [0]
    for left, right in pairwise(runs):
        edge = right.start * FINE_PER_SECTION
        start, end = max(edge - 2, boundaries[-1] + 1), min(edge + 2, right.end * FINE_PER_SECTION - 1)
        gain = scores[start:end, left.language] - scores[start:end, right.language]
        boundaries.append(start + int(np.concatenate([[0.0], gain.cumsum()]).argmax()))
    return boundaries[1:]


def _log_probabilities(probabilities: LanguageProbabilities) -> LanguageProbabilities:
    """Log probabilities, none less than the section's largest by more than MAX_LOG_RATIO."""
    logs = np.log(np.maximum(probabilities, 1e-9))
    clipped: LanguageProbabilities = np.maximum(logs, logs.max(axis=1, keepdims=True) - MAX_LOG_RATIO)
    return clipped
