"""Clustering of voiceprints into speakers, and speakers of words. Pure, on vectors and turns of our own."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech.speakers.clustering import Clustering, cluster, diarize
from speech.speakers.diarization import LocalSpeakers
from speech.speakers.labels import label_segments, smooth_labels, speaker_of
from speech.text.words import Segment, Source, Turn, Word

FRAMES = 589
FRAME = 270 / 16_000
DIMENSIONS = 192


def people(count: int, seed: int = 1) -> np.ndarray:
    """Voices that are nothing alike, shape (count, dimensions)."""
    found = np.random.default_rng(seed).normal(size=(count, DIMENSIONS))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def heard_from(voices: np.ndarray, likeness: float, seed: int = 2) -> np.ndarray:
    """The same voices on another occasion: cosine to the original about ``likeness``."""
    noise = np.random.default_rng(seed).normal(size=voices.shape)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    mixed = likeness * voices + np.sqrt(1 - likeness**2) * noise
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


def test_the_same_person_keeps_a_label_under_any_local_number() -> None:
    anna, ben = people(2)
    found = diarize(
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
    found = diarize([chunk(0, [(0, 1, 6, anna), (1, 4, 9, ben)])])
    first, second = found.turns
    assert first.end > second.start + 1.5


def test_bytes_and_back() -> None:
    anna, ben = people(2)
    one = chunk(3, [(0, 1, 4, anna), (1, 5, 9, ben)])
    two = LocalSpeakers.from_bytes(one.to_bytes())
    assert diarize([one]).turns == diarize([two]).turns
    assert two.frame == one.frame


@pytest.mark.parametrize("count", [1, 2, 5, 10])
def test_the_number_of_speakers_is_found(count: int) -> None:
    voices = heard_from(np.repeat(people(count), 30, axis=0), 0.85)
    assert len(cluster(voices, np.full(len(voices), 3.0, np.float32), Clustering())) == count


@pytest.mark.parametrize(("least", "most", "found"), [(None, 2, 2), (6, None, 6), (3, 3, 3), (None, None, 4)])
def test_bounds_on_the_number_of_speakers(least: int | None, most: int | None, found: int) -> None:
    voices = heard_from(np.repeat(people(4), 20, axis=0), 0.85)
    seconds = np.full(len(voices), 3.0, np.float32)
    assert len(cluster(voices, seconds, Clustering(), low=least or 1, high=most)) == found


def test_no_speech_and_next_to_none() -> None:
    assert diarize([]).turns == ()
    assert diarize([chunk(0, [])]).labels == ()
    (anna,) = people(1)
    assert diarize([chunk(0, [(0, 1, 1.5, anna)])], min_speakers=3).labels == ("SPEAKER_00",)


def test_ten_hours_cost_no_more_than_their_length() -> None:
    def seconds_for(count: int) -> float:
        voices = heard_from(np.tile(people(6), (count // 6, 1)), 0.8)
        begun = time.process_time()
        assert len(cluster(voices, np.full(len(voices), 4.0, np.float32), Clustering())) == 6
        return time.process_time() - begun

    # ten hours give about 30,000 voiceprints; all pairs of them would be 450 million distances
    assert seconds_for(30_000) < 30 * max(seconds_for(3000), 0.05)


def word(text: str, start: float, end: float) -> Word:
    return Word(text, start, end, 0.9)


def segment(words: list[Word], **values: object) -> Segment:
    text = " ".join(w.text for w in words)
    given: dict[str, Any] = {"index": 200, "chunk": 2, "confidence": 0.9, "source": Source.REFINED} | values
    given |= {"start": words[0].start, "end": words[-1].end, "text": text, "words": tuple(words)}
    return Segment(**given)


def test_a_segment_is_divided_where_the_speaker_changes() -> None:
    words = [word(w, i, i + 0.8) for i, w in enumerate(["Are", "you", "there?", "Yes,", "I", "am", "here."])]
    turns = [Turn(0, 2.9, "SPEAKER_00"), Turn(3.0, 8, "SPEAKER_01")]
    parts = label_segments([segment(words), segment([word("Good.", 9, 9.5)], index=201)], turns)
    assert [(p.index, p.speaker, p.text) for p in parts] == [
        (200, "SPEAKER_00", "Are you there?"),
        (201, "SPEAKER_01", "Yes, I am here."),
        (202, "SPEAKER_01", "Good."),
    ]
    assert all(left.end <= right.start for left, right in pairwise(parts))


def test_a_stray_word_stays_in_its_sentence() -> None:
    said = ("We", "met", "on", "Monday.", "Right.", "Then", "we", "left", "again.")
    words = [word(w, i, i + 0.8) for i, w in enumerate(said)]
    speakers = ["A", "A", "B", "A", "B", "B", None, "B", "B"]
    assert smooth_labels(words, speakers) == ["A", "A", "A", "A", "B", "B", "B", "B", "B"]


def test_words_outside_all_turns() -> None:
    turns = [Turn(1, 2, "SPEAKER_00"), Turn(5, 6, "SPEAKER_01")]
    assert speaker_of(2.1, 2.5, turns) == "SPEAKER_00"
    assert speaker_of(4.2, 4.6, turns) == "SPEAKER_01"
    assert speaker_of(9, 9.5, turns) is None
    assert speaker_of(0, 1, []) is None


def test_what_a_person_corrected_is_not_divided() -> None:
    words = [word(w, i, i + 0.8) for i, w in enumerate(["Are", "you", "there?", "Yes."])]
    turns = [Turn(0, 2.9, "SPEAKER_00"), Turn(3.0, 8, "SPEAKER_01")]
    (part,) = label_segments([segment(words, source=Source.HUMAN, speaker="SPEAKER_07")], turns)
    assert (part.speaker, part.text) == ("SPEAKER_07", "Are you there? Yes.")


@given(
    st.lists(st.tuples(st.floats(0, 30), st.floats(0.05, 5), st.sampled_from("ABC")), max_size=12),
    st.lists(st.sampled_from(["one", "two.", "three", "four?"]), min_size=1, max_size=25),
)
def test_no_word_is_lost_or_moved(spans: list[tuple[float, float, str]], texts: list[str]) -> None:
    words = [word(text, i * 1.2, i * 1.2 + 1) for i, text in enumerate(texts)]
    parts = label_segments([segment(words)], [Turn(start, start + length, who) for start, length, who in spans])
    assert [w for part in parts for w in part.words] == words
    assert [part.index for part in parts] == sorted({part.index for part in parts})
    assert all(part.start <= part.end for part in parts)
