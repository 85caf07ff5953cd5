"""Labelling words and segments with speakers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from speech.speakers.labels import label_segments, smooth_speakers, speaker_of
from speech.text.words import Segment, Source, Turn, Word


def word(text: str, start: float, end: float) -> Word:
    return Word(text, start, end, 0.9)


def segment(words: list[Word], **values: object) -> Segment:
    text = " ".join(w.text for w in words)
    fields: dict[str, Any] = {"index": 200, "chunk": 2, "confidence": 0.9, "source": Source.REFINED} | values
    fields |= {"start": words[0].start, "end": words[-1].end, "text": text, "words": tuple(words)}
    return Segment(**fields)


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


def test_single_words_of_another_speaker_are_smoothed() -> None:
    texts = ("We", "met", "on", "Monday.", "Right.", "Then", "we", "left", "again.")
    words = [word(w, i, i + 0.8) for i, w in enumerate(texts)]
    speakers = ["A", "A", "B", "A", "B", "B", None, "B", "B"]
    assert smooth_speakers(words, speakers) == ["A", "A", "A", "A", "B", "B", "B", "B", "B"]


def test_words_outside_all_turns() -> None:
    turns = [Turn(1, 2, "SPEAKER_00"), Turn(5, 6, "SPEAKER_01")]
    assert speaker_of(2.1, 2.5, turns) == "SPEAKER_00"
    assert speaker_of(4.2, 4.6, turns) == "SPEAKER_01"
    assert speaker_of(9, 9.5, turns) is None
    assert speaker_of(0, 1, []) is None


def test_a_corrected_segment_is_not_divided() -> None:
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
