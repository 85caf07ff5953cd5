"""Redaction of hypotheses and texts, and putting the originals back."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.asr.alignment.segments import draft_segments
from speech.text.redaction.detection import find
from speech.text.redaction.kinds import PersonalData
from speech.text.redaction.redact import Original, redact, redact_text, restore
from speech.text.script import is_cjk, join_words
from speech.text.timeline import Timeline
from speech.text.words import Hypothesis, Phrase, Source, Word

REGIONS = ("CN", "US", "GB")
ALL = frozenset(PersonalData)


def spoken(*phrases: str, language: str = "en") -> Hypothesis:
    """A word each half second, each character of Han one of its own, as engines give them."""
    made, at = [], 0.0
    for text in phrases:
        words = []
        for token in text.split():
            parts = list(token) if is_cjk(token[0]) else [token]
            for part in parts:
                words.append(Word(part, at, at + 0.4, 0.8))
                at += 0.5
        made.append(Phrase(words[0].start, words[-1].end, join_words(words), tuple(words), 0.8))
    return Hypothesis(language, tuple(made), {})


def redacted(hypothesis: Hypothesis) -> tuple[Hypothesis, list[Original]]:
    return redact(hypothesis, ALL, REGIONS)


def test_words_become_one_with_the_time_of_all() -> None:
    given_words = spoken("call (415) 555 2671, or not.")
    words = list(given_words.phrases[0].words)
    words[2] = replace(words[2], confidence=0.2)
    result, originals = redacted(
        replace(given_words, phrases=(replace(given_words.phrases[0], words=tuple(words)),))
    )
    (phrase,) = result.phrases
    assert [word.text for word in phrase.words] == ["call", "[PHONE],", "or", "not."]
    assert phrase.text == "call [PHONE], or not."
    number = phrase.words[1]
    assert (number.start, number.end) == (0.5, 1.9)
    assert number.confidence == pytest.approx(0.6)
    assert phrase.confidence == pytest.approx((0.8 + 0.6 + 0.8 + 0.8) / 4)
    assert originals == [Original(PersonalData.PHONE, "(415) 555 2671", 0.5, 1.9)]


def test_chinese_characters_keep_no_blanks_around_a_placeholder() -> None:
    result, originals = redacted(spoken("我的电话是幺三八零零一三八零零零谢谢", language="zh"))
    assert result.phrases[0].text == join_words(result.words) == "我的电话是[PHONE]谢谢"
    assert originals[0].text == "幺三八零零一三八零零零"


def test_a_number_over_several_phrases_is_in_the_first() -> None:
    result, originals = redacted(spoken("it is 138", "0013", "8000. and a@example.com too"))
    assert [phrase.text for phrase in result.phrases] == ["it is [PHONE].", "and [EMAIL] too"]
    first, second = result.phrases
    assert first.end == first.words[-1].end <= second.start <= second.words[0].start
    assert all(before.end <= after.start for before, after in pairwise(result.words))
    assert [original.kind for original in originals] == [PersonalData.PHONE, PersonalData.EMAIL]


def test_words_that_hold_several_keep_what_is_between() -> None:
    result, originals = redacted(spoken("both a@example.com/b@example.com, 13800138000"))
    assert result.phrases[0].text == "both [EMAIL]/[EMAIL], [PHONE]"
    assert [original.text for original in originals] == ["a@example.com", "b@example.com", "13800138000"]


def test_a_hypothesis_without_any_stays_the_same() -> None:
    plain = spoken("there are 2,000,000,000 of them", "in 2024")
    assert redacted(plain) == (plain, [])
    number = spoken("13800138000")
    assert redact(number, frozenset(), REGIONS) == (number, [])
    assert redacted(Hypothesis("en")) == (Hypothesis("en"), [])


def test_text_that_words_do_not_hold_is_redacted_too() -> None:
    loose = Hypothesis("en", (Phrase(0.0, 1.0, "call 13800138000"),), {})
    result, originals = redacted(loose)
    assert (result.phrases[0].text, originals) == ("call [PHONE]", [])


def test_plain_text() -> None:
    assert redact_text("ring 13800138000, or a@example.com.", ALL, REGIONS) == "ring [PHONE], or [EMAIL]."
    assert redact_text("ring me", ALL, REGIONS) == "ring me"


PARTS = (
    "13800138000 138 0013 8000 one two zero double oh 一 三 八 零 幺 打 ， . , - ( ) + 4111 1111 a@example.com "
    "at dot com john 11010519491231002X 叉 2024 2,000 $ hello 点 艾特 [PHONE] 536-90-4399 GB82 WEST 1234 5698 "
    "7654 32 "
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PARTS.split()), max_size=30), st.sets(st.sampled_from(PersonalData)))
def test_nothing_is_left_and_nothing_else_is_changed(parts: list[str], kinds: set[PersonalData]) -> None:
    hypothesis = spoken(" ".join(parts)) if parts else Hypothesis("en")
    result, originals = redact(hypothesis, kinds, REGIONS)
    text = join_words(result.words)
    assert find(text, kinds, REGIONS) == []
    assert join_words(word for phrase in result.phrases for word in phrase.words) == text
    if not find(join_words(hypothesis.words), kinds, REGIONS):
        assert result == hypothesis
    segments = draft_segments(result, chunk=0, timeline=Timeline.of([(0.0, 100.0)]))
    back = restore(segments, {0: {Source.DRAFT: originals}})
    if "[PHONE]" not in parts and not {",", "."} & set(parts):
        plain = draft_segments(hypothesis, chunk=0, timeline=Timeline.of([(0.0, 100.0)]))
        letters = ["".join("".join(segment.text for segment in each).split()) for each in (back, plain)]
        assert letters[0] == letters[1]


class TestRestore:
    TIMELINE = Timeline.of([(0.0, 30.0)])

    def test_originals_come_back_where_they_were(self) -> None:
        hypothesis = spoken("call 138 0013 8000, or 13912345678.", "mail a@example.com")
        result, originals = redacted(hypothesis)
        segments = draft_segments(result, chunk=0, timeline=self.TIMELINE)
        assert "[PHONE]" in segments[0].text
        back = restore(segments, {0: {Source.DRAFT: originals}})
        assert [segment.text for segment in back] == [
            "call 138 0013 8000, or 13912345678.",
            "mail a@example.com",
        ]
        assert [word.text for word in back[1].words] == ["mail", "a@example.com"]

    def test_the_own_reading_comes_first_then_the_refined(self) -> None:
        result, _ = redacted(spoken("call 13800138000"))
        readings = {
            Source.DRAFT: [Original(PersonalData.PHONE, "draft", 0.5, 0.9)],
            Source.REFINED: [Original(PersonalData.PHONE, "refined", 0.6, 0.9)],
        }
        for source, expected in (
            (Source.DRAFT, "draft"),
            (Source.REFINED, "refined"),
            (Source.HUMAN, "refined"),
        ):
            (segment,) = draft_segments(result, chunk=0, timeline=self.TIMELINE)
            (back,) = restore([replace(segment, source=source)], {0: readings})
            assert back.text == f"call {expected}"

    def test_what_has_no_original_stays(self) -> None:
        result, originals = redacted(spoken("call 13800138000 or a@example.com or 13912345678"))
        segments = draft_segments(result, chunk=0, timeline=self.TIMELINE)
        for chunks in ({}, {1: {Source.DRAFT: originals}}):
            assert restore(segments, chunks) == list(segments)
        far = [replace(original, start=20.0, end=21.0) for original in originals]
        assert restore(segments, {0: {Source.DRAFT: far}}) == list(segments)
        (back,) = restore(segments, {0: {Source.DRAFT: originals[1:]}})
        assert back.text == "call [PHONE] or a@example.com or 13912345678"


def test_a_chunk_costs_little() -> None:
    sentence = "so we said that we would call 138 0013 8000 on monday at 10:30 for 2,000 dollars and one more time"
    chunk = spoken(*[sentence] * 5)
    redacted(chunk)
    started = time.perf_counter()
    redacted(chunk)
    assert time.perf_counter() - started < 0.5
