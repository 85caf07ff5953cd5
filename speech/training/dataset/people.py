"""Who may be the same person across recordings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Labels = NDArray[np.int64]
BLOCK = 128
"""Rows compared at once: 10 MB against 20,000 voices."""
ROUNDING = 1e-6


def people(vectors: NDArray[np.float32], names: Sequence[str | None], threshold: float) -> list[int]:
    """A number for the person behind each voiceprint, from 0 in the order of first appearance.

    ``vectors`` has the shape (voices, dimensions). Two voices are linked where their cosine similarity is at least
    ``threshold`` or where they have the same name, and whoever is linked, over however many others, is one person:
    people may be taken for one, one person must not be taken for two. A voiceprint of zeros is like nobody.
    Raises ValueError where there are not as many names as voices.
    """
    if len(names) != len(vectors):
        raise ValueError(f"{len(vectors)} voiceprints came with {len(names)} names")
    labels = np.arange(len(vectors), dtype=np.int64)
    first: dict[str, int] = {}
    namesakes = [(place, first.setdefault(name, place)) for place, name in enumerate(names) if name is not None]
    if namesakes:
        labels = _linked(labels, *np.array(namesakes, dtype=np.int64).T)
    lengths = np.linalg.norm(vectors, axis=1) if len(vectors) else np.zeros(0)
    voices = np.flatnonzero(np.isfinite(lengths) & (lengths > 0))
    unit = vectors[voices] / lengths[voices, None]
    for start in range(0, len(voices), BLOCK):
        alike = unit[start : start + BLOCK] @ unit[start:].T >= threshold - ROUNDING
        known = labels[voices[start : start + BLOCK], None] == labels[voices[start:]]
        rows, columns = np.nonzero(alike & ~known)
        labels = _linked(labels, voices[rows + start], voices[columns + start])
    _, places, numbers = np.unique(labels, return_index=True, return_inverse=True)
    return [int(number) for number in np.argsort(np.argsort(places))[numbers]]


def _linked(labels: Labels, left: Labels, right: Labels) -> Labels:
    """The labels once each pair of ``left`` and ``right`` has the same."""
    links = (np.ones(len(left), dtype=np.int8), (labels[left], labels[right]))
    _, found = connected_components(coo_array(links, shape=(len(labels), len(labels))), directed=False)
    joined: Labels = found[labels].astype(np.int64)
    return joined
