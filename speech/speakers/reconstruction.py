"""The speakers of a recording and their turns, from the local speakers of its chunks. Pure functions on arrays.

Follows pyannote's pipeline: cluster the voiceprints of all windows, assign every local speaker to its nearest
cluster (two of one window to different clusters), and average the windows frame by frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from speech.speakers.clustering import ClusteringOptions, Vectors, cluster
from speech.speakers.diarization import LocalSpeakers
from speech.text.words import Turn, speaker_label

MAX_SIMILARITY_LOSS = 0.3
"""A local speaker takes a less similar cluster, to differ from the others of its window, up to this loss."""

MAX_GAP_SECONDS = 0.3
"""Silence within a turn; a longer silence ends it."""
MIN_TURN_SECONDS = 0.15
"""Shorter activity is noise of the network."""

MAX_OVERLAPPING_SPEAKERS = 2


@dataclass(frozen=True, slots=True)
class Speakers:
    """The people in a recording, in the order in which they first speak, and their turns."""

    turns: tuple[Turn, ...]
    labels: tuple[str, ...]
    vectors: Vectors
    """(speakers, dimensions), length 1: the voiceprint of each."""


def diarize_recording(
    chunks: Sequence[LocalSpeakers],
    options: ClusteringOptions | None = None,
    *,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
) -> Speakers:
    """The speakers of a whole recording from the local speakers of its chunks, which are in order."""
    options = options or ClusteringOptions()
    chunks = [chunk for chunk in chunks if len(chunk.starts)]
    vectors = np.concatenate([chunk.vectors for chunk in chunks]) if chunks else np.zeros((0, 1), np.float32)
    if len(vectors) == 0:
        return Speakers((), (), np.zeros((0, 0), np.float32))
    seconds = np.concatenate([chunk.seconds for chunk in chunks])
    centroids = cluster(vectors, seconds, options, min_speakers=min_speakers or 1, max_speakers=max_speakers)
    spans: list[tuple[float, float, int]] = []
    for chunk in chunks:
        spans += _active_spans(chunk, centroids)
    return _label_speakers(spans, centroids)


def _active_spans(chunk: LocalSpeakers, centroids: Vectors) -> list[tuple[float, float, int]]:
    """(start, end, speaker) within one chunk, from the average of its windows."""
    chunk_start = float(chunk.starts[0])
    window_frames = chunk.activity.shape[1]
    first_frames = np.round((chunk.starts - chunk_start) / chunk.frame).astype(int)
    total = int(first_frames[-1]) + window_frames
    activation = np.zeros((total, len(centroids)), np.float32)
    count = np.zeros((total, 1), np.float32)
    windows = np.zeros((total, 1), np.float32)
    for window, first in enumerate(first_frames):
        activity = chunk.activity[window].astype(np.float32) / 255
        rows = slice(first, first + window_frames)
        windows[rows] += 1
        count[rows, 0] += activity.sum(axis=1)
        for local, speaker in _assign_speakers(chunk, window, centroids):
            activation[rows, speaker] += activity[:, local]
    count = np.round(count / np.maximum(windows, 1))[:, 0].astype(int)
    activation /= np.maximum(windows, 1)
    active = np.zeros_like(activation, bool)
    order = np.argsort(-activation, axis=1)
    for rank in range(min(MAX_OVERLAPPING_SPEAKERS, activation.shape[1])):
        frames = np.flatnonzero((count > rank) & (activation[np.arange(total), order[:, rank]] > 0))
        active[frames, order[frames, rank]] = True
    return [
        (chunk_start + first * chunk.frame, chunk_start + last * chunk.frame, speaker)
        for speaker in range(active.shape[1])
        for first, last in _active_runs(active[:, speaker], chunk.frame)
    ]


def _assign_speakers(chunk: LocalSpeakers, window: int, centroids: Vectors) -> list[tuple[int, int]]:
    """(local speaker, speaker) for one window; local speakers differ, unless their voiceprints are too similar."""
    voices = np.flatnonzero(chunk.window == window)
    if len(voices) == 0:
        return []
    similarity = chunk.vectors[voices] @ centroids.T
    assigned = similarity.argmax(axis=1)
    if len(voices) <= len(centroids):
        rows, columns = linear_sum_assignment(-similarity)
        acceptable = similarity[rows, assigned[rows]] - similarity[rows, columns] < MAX_SIMILARITY_LOSS
        assigned[rows[acceptable]] = columns[acceptable]
    return [(int(local), int(speaker)) for local, speaker in zip(chunk.speaker[voices], assigned, strict=True)]


def _active_runs(active: NDArray[np.bool_], frame_seconds: float) -> list[tuple[int, int]]:
    """First and last (exclusive) frames of each run, across short gaps, without very short runs."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    runs: list[tuple[int, int]] = []
    for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if runs and (first - runs[-1][1]) * frame_seconds <= MAX_GAP_SECONDS:
            runs[-1] = (runs[-1][0], last)
        else:
            runs.append((first, last))
    return [run for run in runs if (run[1] - run[0]) * frame_seconds >= MIN_TURN_SECONDS]


def _label_speakers(spans: list[tuple[float, float, int]], centroids: Vectors) -> Speakers:
    """Labels in the order of first speech; clusters without speech are left out."""
    spans.sort()
    order: dict[int, int] = {}
    for _, _, speaker in spans:
        order.setdefault(speaker, len(order))
    turns: list[Turn] = []
    last_turn: dict[int, int] = {}
    for start, end, speaker in spans:
        last = last_turn.get(speaker)
        if last is not None and start - turns[last].end <= MAX_GAP_SECONDS:
            turns[last] = Turn(turns[last].start, max(end, turns[last].end), turns[last].speaker)
        else:
            last_turn[speaker] = len(turns)
            turns.append(Turn(start, end, speaker_label(order[speaker])))
    return Speakers(tuple(turns), tuple(speaker_label(i) for i in range(len(order))), centroids[list(order)])
