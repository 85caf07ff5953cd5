"""Dividing and joining segments."""

from __future__ import annotations

from dataclasses import replace

import pytest

from speech.text.editing import divide, divide_at_time, join
from speech.text.words import Segment, Source, Word


def segment(text: str, start: float = 0.0, *, source: Source = Source.REFINED, index: int = 0) -> Segment:
    """A word a second, each as sure as it is late."""
    words = tuple(
        Word(word, start + i, start + i + 0.8, round(0.1 * (i + 1), 3)) for i, word in enumerate(text.split())
    )
    return Segment(index, 0, start, start + len(words), text, 0.5, source, "en", "SPEAKER_00", words)


def test_a_segment_is_divided_between_two_words() -> None:
    first, second = divide(segment("We met on Monday."), 2)
    assert (first.text, first.start, first.end) == ("We met", 0.0, 1.8)
    assert first.confidence == pytest.approx(0.15)
    assert (second.text, second.start, second.end) == ("on Monday.", 2.0, 4.0)


def test_joining_undoes_dividing() -> None:
    whole = segment("We met on Monday.")
    for at in (1, 2, 3):
        again = join(*divide(whole, at))
        assert (again.text, again.words, again.start, again.end) == (whole.text, whole.words, 0.0, 4.0)


def test_scripts_without_spaces_stay_without() -> None:
    words = tuple(Word(c, i, i + 1, 1.0, glued=i > 0) for i, c in enumerate("我们走。"))
    whole = replace(segment(""), text="我们走。", words=words, end=4.0)
    first, second = divide(whole, 2)
    assert (first.text, second.text, join(first, second).text) == ("我们", "走。", "我们走。")


def test_what_a_person_wrote_is_theirs_only_if_all_of_it_is() -> None:
    human, machine = segment("One two", source=Source.HUMAN), segment("three four", 2.0, index=1)
    assert join(human, machine).source is Source.REFINED
    assert join(human, replace(machine, source=Source.HUMAN)).source is Source.HUMAN
    assert join(human, machine).index == 0


def test_words_are_divided_at_a_time_too() -> None:
    first, second = divide_at_time(segment("We met on Monday."), 2.0)
    assert (first.text, second.text) == ("We met", "on Monday.")
    nothing, everything = divide_at_time(segment("We met on Monday."), 0.0)
    assert (nothing.text, nothing.words, everything.text) == ("", (), "We met on Monday.")
    assert join(nothing, everything).text == "We met on Monday."
