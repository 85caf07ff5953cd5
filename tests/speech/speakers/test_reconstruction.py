"""Clustering voiceprints into speakers, and the turns of a recording, on synthetic vectors."""

from __future__ import annotations

import time

import numpy as np
import pytest

from speech.engines import SAMPLE_RATE
from speech.speakers.clustering import ClusteringOptions, cluster
from speech.speakers.diarization import LocalSpeakers, restore_pauses
from speech.speakers.reconstruction import diarize_recording
from speech.text.timeline import Timeline

FRAMES = 589
FRAME = 270 / 16_000
DIMENSIONS = 192


def people(count: int, seed: int = 1) -> np.ndarray:
    """Voiceprints of different people, shape (count, dimensions)."""
    vectors = np.random.default_rng(seed).normal(size=(count, DIMENSIONS))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def same_voices(voices: np.ndarray, similarity: float, seed: int = 2) -> np.ndarray:
    """Other voiceprints of the same people: the cosine to the original is about ``similarity``."""
    noise = np.random.default_rng(seed).normal(size=voices.shape)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    mixed = similarity * voices + np.sqrt(1 - similarity**2) * noise
    return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), np.float32)


def chunk(start: float, spoken: list[tuple[int, float, float, np.ndarray]]) -> LocalSpeakers:
    """One window of 10 s; for each local speaker: its number, from when to when, its voiceprint."""
    activity = np.zeros((1, FRAMES, 3), np.uint8)
    for local, begin, end, _ in spoken:
        activity[0, int(begin / FRAME) : int(end / FRAME), local] = 255
    return LocalSpeakers(
        starts=np.array([start]),
        activity=activity,
        window=np.zeros(len(spoken), np.int32),
        speaker=np.array([local for local, *_ in spoken], np.int32),
        seconds=np.array([end - begin for _, begin, end, _ in spoken], np.float32),
        vectors=np.stack([vector for *_, vector in spoken]) if spoken else np.zeros((0, DIMENSIONS), np.float32),
        frame=FRAME,
    )


def test_a_person_has_one_label_whatever_the_local_number() -> None:
    anna, ben = people(2)
    found = diarize_recording(
        [
            chunk(0, [(0, 1, 4, anna), (1, 5, 9, ben)]),
            chunk(10, [(2, 0, 5, ben)]),
            chunk(20, []),
            chunk(30, [(0, 0, 2, ben), (1, 3, 9, anna)]),
        ]
    )
    assert found.labels == ("SPEAKER_00", "SPEAKER_01")
    assert [turn.speaker[-2:] for turn in found.turns] == ["00", "01", "01", "01", "00"]
    assert [(round(turn.start), round(turn.end)) for turn in found.turns] == [
        (1, 4), (5, 9), (10, 15), (30, 32), (33, 39),
    ]  # fmt: skip
    assert found.vectors[0] @ anna > 0.99
    assert found.vectors[1] @ ben > 0.99


def test_overlap_is_kept() -> None:
    anna, ben = people(2)
    found = diarize_recording([chunk(0, [(0, 1, 6, anna), (1, 4, 9, ben)])])
    first, second = found.turns
    assert first.end > second.start + 1.5


def test_local_speakers_round_trip() -> None:
    anna, ben = people(2)
    one = chunk(3, [(0, 1, 4, anna), (1, 5, 9, ben)])
    two = LocalSpeakers.from_bytes(one.to_bytes())
    assert diarize_recording([one]).turns == diarize_recording([two]).turns
    assert two.frame == one.frame


@pytest.mark.parametrize("count", [1, 2, 5, 10])
def test_the_number_of_speakers_is_found(count: int) -> None:
    voices = same_voices(np.repeat(people(count), 30, axis=0), 0.85)
    assert len(cluster(voices, np.full(len(voices), 3.0, np.float32), ClusteringOptions())) == count


@pytest.mark.parametrize(("least", "most", "expected"), [(None, 2, 2), (6, None, 6), (3, 3, 3), (None, None, 4)])
def test_bounds_on_the_number_of_speakers(least: int | None, most: int | None, expected: int) -> None:
    voices = same_voices(np.repeat(people(4), 20, axis=0), 0.85)
    seconds = np.full(len(voices), 3.0, np.float32)
    assert (
        len(cluster(voices, seconds, ClusteringOptions(), min_speakers=least or 1, max_speakers=most)) == expected
    )


def test_no_speech_and_very_little_speech() -> None:
    assert diarize_recording([]).turns == ()
    assert diarize_recording([chunk(0, [])]).labels == ()
    (anna,) = people(1)
    assert diarize_recording([chunk(0, [(0, 1, 1.5, anna)])], min_speakers=3).labels == ("SPEAKER_00",)


def test_clustering_takes_linear_time() -> None:
    def seconds_for(count: int) -> float:
        voices = same_voices(np.tile(people(6), (count // 6, 1)), 0.8)
        started = time.process_time()
        assert len(cluster(voices, np.full(len(voices), 4.0, np.float32), ClusteringOptions())) == 6
        return time.process_time() - started

    # ten hours give about 30,000 voiceprints; all pairs of them would be 450 million distances
    assert seconds_for(30_000) < 30 * max(seconds_for(3000), 0.05)


def test_pauses_that_a_chunk_leaves_out_are_put_back() -> None:
    """As noise like its own, and no longer than they were."""
    random = np.random.default_rng(4)
    samples = random.normal(0, 0.01, 5 * SAMPLE_RATE).astype(np.float32)
    timeline = Timeline(((10.0, 12.0), (15.0, 18.0)))
    restored = restore_pauses(samples, timeline)
    assert len(restored) == 8 * SAMPLE_RATE
    assert np.array_equal(restored[: 2 * SAMPLE_RATE], samples[: 2 * SAMPLE_RATE])
    assert np.array_equal(restored[5 * SAMPLE_RATE :], samples[2 * SAMPLE_RATE :])
    pause = restored[2 * SAMPLE_RATE : 5 * SAMPLE_RATE]
    assert 0.005 < pause.std() < 0.011
