"""Which local speakers are one person, and from when to when each of them talks. Pure functions on arrays.

Follows pyannote's recipe: cluster the voiceprints of all windows, give every local speaker to its nearest cluster
(two of one window never to the same), and let the windows vote frame by frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import pdist

from speech.speakers.diarization import LocalSpeakers
from speech.text.words import Turn, speaker_label

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Clustering:
    """How voices are told apart; distances are cosine distances."""

    threshold: float = 0.5
    """Clusters further apart than this are different people."""
    min_cluster_seconds: float = 0.8
    """Voiceprints of less speech than this do not found clusters, they only join one."""
    min_speaker_seconds: float = 1.0
    """Seconds of speech below which a cluster is dissolved into its neighbours; every second counts four times."""
    min_speaker_share: float = 0.005
    """The same as a share of all speech: in an hour, a few odd seconds are nobody."""
    block: int = 1500
    """Voiceprints clustered at once; more are first brought together block by block, so that cost stays linear."""
    block_threshold: float = 0.25
    """The distance within which a block's voiceprints are brought together."""


def cluster(
    vectors: Vectors, seconds: NDArray[np.float32], how: Clustering, *, low: int = 1, high: int | None = None
) -> Vectors:
    """The centroids, (speakers, dimensions) of length 1, of ``low`` to ``high`` speakers."""
    sure = seconds >= how.min_cluster_seconds
    if sure.sum() < max(low, 1):
        sure = np.ones(len(vectors), bool)
    vectors, seconds = vectors[sure], seconds[sure]
    if len(vectors) == 0:
        return vectors
    while len(vectors) > how.block:
        before = len(vectors)
        blocks = [slice(at, at + how.block) for at in range(0, before, how.block)]
        parts = [_merge_close(vectors[block], seconds[block], how.block_threshold) for block in blocks]
        vectors = np.concatenate([part[0] for part in parts])
        seconds = np.concatenate([part[1] for part in parts])
        if len(vectors) > 0.9 * before:  # they are all different: take the longest
            longest = np.argsort(-seconds)[: how.block]
            vectors, seconds = vectors[longest], seconds[longest]
    if len(vectors) == 1:
        return vectors
    tree = linkage(pdist(vectors, "cosine"), method="average")
    labels = fcluster(tree, how.threshold, criterion="distance")
    min_speaker_seconds = max(how.min_speaker_seconds, how.min_speaker_share * float(seconds.sum()))
    found = _count_large_clusters(labels, seconds, min_speaker_seconds)
    count = min(max(found, low), high or len(vectors))
    if count != found or found == 0:
        labels = _cut_to_count(tree, seconds, count, min_speaker_seconds)
    centroids, weights = _centroids(vectors, seconds, labels)
    keep = np.argsort(-weights)[: max(count, 1)]
    return centroids[np.sort(keep)]


def _count_large_clusters(
    labels: NDArray[np.int32], seconds: NDArray[np.float32], min_speaker_seconds: float
) -> int:
    """How many clusters have speech enough to be somebody; one at least."""
    weights = np.bincount(labels, seconds)[1:]
    return max(1, int((weights >= min(min_speaker_seconds, weights.max())).sum()))


def _cut_to_count(
    tree: NDArray[np.float64], seconds: NDArray[np.float32], count: int, min_speaker_seconds: float
) -> NDArray[np.int32]:
    """Cut the tree where ``count`` clusters have speech enough, as near to its root as can be."""
    for cut in range(count, len(seconds) + 1):
        labels = fcluster(tree, cut, criterion="maxclust")
        if _count_large_clusters(labels, seconds, min_speaker_seconds) >= count:
            return np.asarray(labels)
    return np.asarray(fcluster(tree, count, criterion="maxclust"))


def _merge_close(
    vectors: Vectors, seconds: NDArray[np.float32], block_threshold: float
) -> tuple[Vectors, NDArray[np.float32]]:
    if len(vectors) < 2:
        return vectors, seconds
    labels = fcluster(linkage(pdist(vectors, "cosine"), method="average"), block_threshold, criterion="distance")
    return _centroids(vectors, seconds, labels)


def _centroids(
    vectors: Vectors, seconds: NDArray[np.float32], labels: NDArray[np.int32]
) -> tuple[Vectors, NDArray[np.float32]]:
    """Means of length 1, weighted by seconds, and the seconds of each, in the order of the labels."""
    names = np.unique(labels)
    sums = np.stack([(vectors[labels == name] * seconds[labels == name, None]).sum(axis=0) for name in names])
    weights = np.array([seconds[labels == name].sum() for name in names], np.float32)
    return (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32), weights


@dataclass(frozen=True, slots=True)
class Speakers:
    """The people in a recording, in the order in which they first speak, and their turns."""

    turns: tuple[Turn, ...]
    labels: tuple[str, ...]
    vectors: Vectors
    """(speakers, dimensions), length 1: each one's voiceprint."""


@dataclass(frozen=True, slots=True)
class Match:
    """Which of the known voices somebody is, by place, and the cosine of the two voiceprints."""

    place: int
    score: float


def identify(heard: Sequence[Vectors], known: Sequence[Vectors], threshold: float) -> list[Match | None]:
    """For each voice heard, who it is. No two are one person, and nobody is anybody below the threshold."""
    found: list[Match | None] = [None] * len(heard)
    if not heard or not known:
        return found
    likeness = np.clip(np.stack(heard) @ np.stack(known).T, -1, 1)
    # what lies below the threshold may not win somebody a better match elsewhere
    for row, column in zip(*linear_sum_assignment(np.maximum(likeness, threshold), maximize=True), strict=True):
        if likeness[row, column] >= threshold:
            found[row] = Match(int(column), float(likeness[row, column]))
    return found


def diarize(
    chunks: Sequence[LocalSpeakers],
    how: Clustering | None = None,
    *,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
) -> Speakers:
    """The speakers of a whole recording from what was heard in its chunks, which are in order."""
    how = how or Clustering()
    heard = [chunk for chunk in chunks if len(chunk.starts)]
    vectors = np.concatenate([chunk.vectors for chunk in heard]) if heard else np.zeros((0, 1), np.float32)
    if len(vectors) == 0:
        return Speakers((), (), np.zeros((0, 0), np.float32))
    seconds = np.concatenate([chunk.seconds for chunk in heard])
    centroids = cluster(vectors, seconds, how, low=min_speakers or 1, high=max_speakers)
    spans: list[tuple[float, float, int]] = []
    for chunk in heard:
        spans += _reconstruct(chunk, centroids)
    return _label_turns(spans, centroids)


def _reconstruct(chunk: LocalSpeakers, centroids: Vectors) -> list[tuple[float, float, int]]:
    """(start, end, speaker) within one chunk: its windows vote on every frame."""
    begin = float(chunk.starts[0])
    frames = chunk.activity.shape[1]
    places = np.round((chunk.starts - begin) / chunk.frame).astype(int)
    total = int(places[-1]) + frames
    votes = np.zeros((total, len(centroids)), np.float32)
    count = np.zeros((total, 1), np.float32)
    windows = np.zeros((total, 1), np.float32)
    for window, place in enumerate(places):
        activity = chunk.activity[window].astype(np.float32) / 255
        rows = slice(place, place + frames)
        windows[rows] += 1
        count[rows, 0] += activity.sum(axis=1)
        for local, speaker in _assign_local_speakers(chunk, window, centroids):
            votes[rows, speaker] += activity[:, local]
    count = np.round(count / np.maximum(windows, 1))[:, 0].astype(int)
    votes /= np.maximum(windows, 1)
    talking = np.zeros_like(votes, bool)
    order = np.argsort(-votes, axis=1)
    for rank in range(min(2, votes.shape[1])):
        spoken = np.flatnonzero((count > rank) & (votes[np.arange(total), order[:, rank]] > 0))
        talking[spoken, order[spoken, rank]] = True
    return [
        (begin + first * chunk.frame, begin + last * chunk.frame, speaker)
        for speaker in range(talking.shape[1])
        for first, last in _active_runs(talking[:, speaker], chunk.frame)
    ]


def _assign_local_speakers(chunk: LocalSpeakers, window: int, centroids: Vectors) -> list[tuple[int, int]]:
    """(local speaker, speaker) for one window; two local speakers are two people, unless they sound the same."""
    mine = np.flatnonzero(chunk.window == window)
    if len(mine) == 0:
        return []
    likeness = chunk.vectors[mine] @ centroids.T
    chosen = likeness.argmax(axis=1)
    if len(mine) <= len(centroids):
        rows, columns = linear_sum_assignment(-likeness)
        apart = likeness[rows, chosen[rows]] - likeness[rows, columns] < MAX_SEPARATION_LOSS
        chosen[rows[apart]] = columns[apart]
    return [(int(local), int(speaker)) for local, speaker in zip(chunk.speaker[mine], chosen, strict=True)]


MAX_SEPARATION_LOSS = 0.3
"""How much less like somebody a local speaker may be for being kept apart from another of its window."""

MAX_TURN_GAP = 0.3
"""Seconds of silence within a turn; a longer silence ends it."""
MIN_TURN = 0.15
"""Seconds; less is a flicker of the network."""


def _active_runs(active: NDArray[np.bool_], frame: float) -> list[tuple[int, int]]:
    """First and last (exclusive) frames of each run, over short gaps, without flickers."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    runs: list[tuple[int, int]] = []
    for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if runs and (first - runs[-1][1]) * frame <= MAX_TURN_GAP:
            runs[-1] = (runs[-1][0], last)
        else:
            runs.append((first, last))
    return [run for run in runs if (run[1] - run[0]) * frame >= MIN_TURN]


def _label_turns(spans: list[tuple[float, float, int]], centroids: Vectors) -> Speakers:
    """Labels in the order of first speech; who never speaks is left out."""
    spans.sort()
    order: dict[int, int] = {}
    for _, _, speaker in spans:
        order.setdefault(speaker, len(order))
    turns: list[Turn] = []
    latest: dict[int, int] = {}
    for start, end, speaker in spans:
        before = latest.get(speaker)
        if before is not None and start - turns[before].end <= MAX_TURN_GAP:
            turns[before] = Turn(turns[before].start, max(end, turns[before].end), turns[before].speaker)
        else:
            latest[speaker] = len(turns)
            turns.append(Turn(start, end, speaker_label(order[speaker])))
    return Speakers(tuple(turns), tuple(speaker_label(i) for i in range(len(order))), centroids[list(order)])
