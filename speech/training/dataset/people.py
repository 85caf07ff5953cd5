"""Links speakers that may be the same person across recordings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Labels = NDArray[np.int64]
BLOCK_ROWS = 128
"""Voices compared at once: 10 MB against 20,000 voices."""
SIMILARITY_TOLERANCE = 1e-6


def link_people(vectors: NDArray[np.float32], names: Sequence[str | None], threshold: float) -> list[int]:
    """A person number for each voiceprint, from 0 in the order of first appearance.

    ``vectors`` has the shape (voices, dimensions). Two voices are linked where their cosine similarity is at least
    ``threshold`` or their names are equal; a connected component of links is one person. Two people may be merged,
    but one person must not be split. A voiceprint of zeros is only linked by name.
    Raises ValueError where there are not as many names as voices.
    """
    if len(names) != len(vectors):
        raise ValueError(f"{len(vectors)} voiceprints came with {len(names)} names")
    labels = np.arange(len(vectors), dtype=np.int64)
    first: dict[str, int] = {}
    namesakes = [(index, first.setdefault(name, index)) for index, name in enumerate(names) if name is not None]
    if namesakes:
        labels = _merge(labels, *np.array(namesakes, dtype=np.int64).T)
    lengths = np.linalg.norm(vectors, axis=1) if len(vectors) else np.zeros(0)
    voices = np.flatnonzero(np.isfinite(lengths) & (lengths > 0))
    unit = vectors[voices] / lengths[voices, None]
    for start in range(0, len(voices), BLOCK_ROWS):
        similar = unit[start : start + BLOCK_ROWS] @ unit[start:].T >= threshold - SIMILARITY_TOLERANCE
        known = labels[voices[start : start + BLOCK_ROWS], None] == labels[voices[start:]]
        rows, columns = np.nonzero(similar & ~known)
        labels = _merge(labels, voices[rows + start], voices[columns + start])
    _, first_rows, numbers = np.unique(labels, return_index=True, return_inverse=True)
    return [int(number) for number in np.argsort(np.argsort(first_rows))[numbers]]


def _merge(labels: Labels, left: Labels, right: Labels) -> Labels:
    """The labels after merging those of each pair of ``left`` and ``right``."""
    links = (np.ones(len(left), dtype=np.int8), (labels[left], labels[right]))
    _, components = connected_components(coo_array(links, shape=(len(labels), len(labels))), directed=False)
    merged: Labels = components[labels].astype(np.int64)
    return merged
