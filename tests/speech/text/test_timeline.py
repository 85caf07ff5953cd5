"""Chunks that leave out pauses: from the chunk's seconds to the recording's and back."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech.asr.alignment.segments import draft_segments
from speech.text.repetition import drop_repeats, is_repetitive
from speech.text.timeline import Timeline
from speech.text.words import Hypothesis, Phrase, Word

THREE = Timeline(((10.0, 12.0), (20.0, 25.0), (70.0, 71.0)))


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    at, stretches = 0.0, []
    for gap, length in draw(st.lists(st.tuples(st.floats(0.5, 50), st.floats(0.2, 20)), min_size=1, max_size=6)):
        stretches.append((at + gap, at + gap + length))
        at += gap + length
    return Timeline(tuple(stretches))


@pytest.mark.parametrize(
    ("span", "pieces"),
    [
        ((0.5, 1.5), [(10.5, 11.5)]),
        ((1.5, 3.0), [(11.5, 12.0), (20.0, 21.0)]),
        ((0.0, 8.0), [(10.0, 12.0), (20.0, 25.0), (70.0, 71.0)]),
        ((2.0, 2.5), [(20.0, 20.5)]),
        ((2.0, 2.0), [(20.0, 20.0)]),
        ((7.5, 9.0), [(70.5, 71.0)]),
        ((8.5, 9.0), [(71.0, 71.0)]),
    ],
)
def test_where_a_span_of_the_chunk_lies(span: tuple[float, float], pieces: list[tuple[float, float]]) -> None:
    assert THREE.in_recording(*span) == pieces


@given(timelines(), st.floats(0, 60), st.floats(0.01, 40))
def test_there_and_back_again(timeline: Timeline, start: float, length: float) -> None:
    start, end = min(start, timeline.seconds), min(start + length, timeline.seconds)
    pieces = timeline.in_recording(start, end)
    assert sum(b - a for a, b in pieces) == pytest.approx(end - start, abs=1e-6)
    assert all(any(s - 1e-6 <= a <= b <= e + 1e-6 for s, e in timeline.stretches) for a, b in pieces)
    back = [part for piece in pieces for part in timeline.in_chunk(*piece)]
    assert sum(b - a for a, b in back) == pytest.approx(end - start, abs=1e-6)


@given(timelines(), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 3)), min_size=1, max_size=30))
def test_words_stay_in_order_and_none_spans_what_was_left_out(
    timeline: Timeline, gaps: list[tuple[float, float]]
) -> None:
    words, at = [], 0.0
    for gap, length in gaps:
        words.append(Word("word", at + gap, at + gap + length, 0.9))
        at += gap + length
    hypothesis = Hypothesis("en", (Phrase(words[0].start, words[-1].end, "", tuple(words)),))
    placed = timeline.place(hypothesis).words
    assert len(placed) == len(words)
    assert all(left.start <= right.start + 1e-6 for left, right in pairwise(placed))
    assert all(any(s - 1e-6 <= w.start <= w.end <= e + 1e-6 for s, e in timeline.stretches) for w in placed)


def test_segments_end_where_something_was_left_out() -> None:
    words = tuple(Word(text, at, at + 0.4, 0.9) for text, at in (("one", 1.5), ("two", 2.0), ("three", 2.5)))
    hypothesis = Hypothesis("en", (Phrase(1.5, 2.9, "one two three", words),))
    timeline = Timeline(((0.0, 2.0), (2.6, 5.0)))
    segments = draft_segments(timeline.place(hypothesis), chunk=0, timeline=timeline)
    assert [segment.text for segment in segments] == ["one", "two three"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("no no no no", "no no no no"),
        ("so there there there there there there he was", "so there he was"),
        ("well " + "I see it " * 9 + "now", "well I see it now"),
        ("a b " * 3, "a b a b a b"),
        ("", ""),
    ],
)
def test_loops_are_dropped(text: str, left: str) -> None:
    kept = drop_repeats(text.split(), key=str)
    assert kept == left.split()
    assert not is_repetitive(kept)
