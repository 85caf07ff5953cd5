"""Clustering voiceprints into speakers. Pure functions on arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

Vectors = NDArray[np.float32]
"""Voiceprints, shape (voices, dimensions), length 1."""


@dataclass(frozen=True, slots=True)
class ClusteringOptions:
    """Distances are cosine distances."""

    threshold: float = 0.55
    """Clusters further apart than this are different people."""
    min_founding_seconds: float = 0.8
    """Voiceprints of less speech than this do not found clusters, they only join one."""
    min_cluster_seconds: float = 1.0
    """Clusters with less speech are dissolved into their neighbours. Every second of speech counts twice,
    since windows overlap."""
    min_cluster_share: float = 0.01
    """The same as a share of all speech: in an hour, a few odd seconds are not a person."""
    block_size: int = 1500
    """Voiceprints clustered at once; more are first merged block by block, so that cost stays linear."""
    merge_threshold: float = 0.25
    """The distance within which the voiceprints of a block are merged."""


def cluster(
    vectors: Vectors,
    seconds: NDArray[np.float32],
    options: ClusteringOptions,
    *,
    min_speakers: int = 1,
    max_speakers: int | None = None,
) -> Vectors:
    """The centroids, (speakers, dimensions) of length 1, of ``min_speakers`` to ``max_speakers`` speakers."""
    founding = seconds >= options.min_founding_seconds
    if founding.sum() < max(min_speakers, 1):
        founding = np.ones(len(vectors), bool)
    vectors, seconds = vectors[founding], seconds[founding]
    if len(vectors) == 0:
        return vectors
    vectors, seconds = _reduce(vectors, seconds, options)
    if len(vectors) == 1:
        return vectors
    tree = linkage(pdist(vectors, "cosine"), method="average")
    labels = fcluster(tree, options.threshold, criterion="distance")
    min_seconds = max(options.min_cluster_seconds, options.min_cluster_share * float(seconds.sum()))
    large_clusters = _count_large(labels, seconds, min_seconds)
    count = min(max(large_clusters, min_speakers), max_speakers or len(vectors))
    if count != large_clusters or large_clusters == 0:
        labels = _cut_tree(tree, seconds, count, min_seconds)
    centroids, weights = _centroids(vectors, seconds, labels)
    keep = np.argsort(-weights)[: max(count, 1)]
    return centroids[np.sort(keep)]


def _reduce(
    vectors: Vectors, seconds: NDArray[np.float32], options: ClusteringOptions
) -> tuple[Vectors, NDArray[np.float32]]:
    """Merge voiceprints block by block until one block is left."""
    while len(vectors) > options.block_size:
        before = len(vectors)
        blocks = [slice(at, at + options.block_size) for at in range(0, before, options.block_size)]
        parts = [_merge_block(vectors[block], seconds[block], options.merge_threshold) for block in blocks]
        vectors = np.concatenate([part[0] for part in parts])
        seconds = np.concatenate([part[1] for part in parts])
        if len(vectors) > 0.9 * before:  # they are all different: take the longest
            longest = np.argsort(-seconds)[: options.block_size]
            vectors, seconds = vectors[longest], seconds[longest]
    return vectors, seconds


def _merge_block(
    vectors: Vectors, seconds: NDArray[np.float32], threshold: float
) -> tuple[Vectors, NDArray[np.float32]]:
    if len(vectors) < 2:
        return vectors, seconds
    labels = fcluster(linkage(pdist(vectors, "cosine"), method="average"), threshold, criterion="distance")
    return _centroids(vectors, seconds, labels)


def _count_large(labels: NDArray[np.int32], seconds: NDArray[np.float32], min_seconds: float) -> int:
    """How many clusters have at least ``min_seconds`` of speech; at least one."""
    weights = np.bincount(labels, seconds)[1:]
    return max(1, int((weights >= min(min_seconds, weights.max())).sum()))


def _cut_tree(
    tree: NDArray[np.float64], seconds: NDArray[np.float32], count: int, min_seconds: float
) -> NDArray[np.int32]:
    """Cut the tree as near to its root as possible with ``count`` large clusters."""
    for clusters in range(count, len(seconds) + 1):
        labels = fcluster(tree, clusters, criterion="maxclust")
        if _count_large(labels, seconds, min_seconds) >= count:
            return np.asarray(labels)
    return np.asarray(fcluster(tree, count, criterion="maxclust"))


def _centroids(
    vectors: Vectors, seconds: NDArray[np.float32], labels: NDArray[np.int32]
) -> tuple[Vectors, NDArray[np.float32]]:
    """Means of length 1, weighted by seconds, and the seconds of each, in the order of the labels."""
    names = np.unique(labels)
    sums = np.stack([(vectors[labels == name] * seconds[labels == name, None]).sum(axis=0) for name in names])
    weights = np.array([seconds[labels == name].sum() for name in names], np.float32)
    return (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32), weights
