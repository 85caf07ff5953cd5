"""Identifying speakers by known voiceprints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from speech.speakers.clustering import Vectors


@dataclass(frozen=True, slots=True)
class Match:
    """The position of the matching known voice, and the cosine similarity of the two voiceprints."""

    position: int
    score: float


def identify(voices: Sequence[Vectors], known: Sequence[Vectors], threshold: float) -> list[Match | None]:
    """For each voice the matching known one, None below the threshold. No two voices match the same known one."""
    matches: list[Match | None] = [None] * len(voices)
    if not voices or not known:
        return matches
    similarity = np.clip(np.stack(voices) @ np.stack(known).T, -1, 1)
    # similarities below the threshold must not decide which of two better matches is chosen
    rows, columns = linear_sum_assignment(np.maximum(similarity, threshold), maximize=True)
    for row, column in zip(rows, columns, strict=True):
        if similarity[row, column] >= threshold:
            matches[row] = Match(int(column), float(similarity[row, column]))
    return matches
