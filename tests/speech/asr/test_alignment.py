from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.asr.alignment.align import align
from speech.asr.alignment.doubts import Reason
from speech.asr.alignment.segments import MAX_SEGMENT_SECONDS, draft_segments
from speech.text.redaction.kinds import PersonalData
from speech.text.redaction.redact import redact
from speech.text.repetition import is_repetitive
from speech.text.script import is_wrong_script, join_words, normalise_script
from speech.text.timeline import Timeline
from speech.text.words import Hypothesis, Phrase, Source, Word

SPAN = Timeline(((10.0, 40.0),))


def hypothesis(text: str, *, start: float = 10.0, confidence: float = 0.8, **signals: float) -> Hypothesis:
    """Words half a second apart."""
    words = tuple(
        Word(word, start + i * 0.5, start + i * 0.5 + 0.4, confidence) for i, word in enumerate(text.split())
    )
    phrases = (Phrase(words[0].start, words[-1].end, text, words, confidence),) if words else ()
    return Hypothesis("en", phrases, signals)


def decide(draft: Hypothesis | None, refined: Hypothesis | None) -> tuple[str, Source, tuple[Reason, ...]]:
    alignment = align(draft, refined, chunk=3, timeline=SPAN)
    return " ".join(segment.text for segment in alignment.segments), alignment.source, alignment.reasons


def test_refined_words_are_used_unless_in_doubt() -> None:
    assert decide(hypothesis("he was ill posed"), hypothesis("he was ill disposed")) == (
        "he was ill disposed",
        Source.REFINED,
        (),
    )


def test_the_draft_is_used_where_refined_words_are_in_doubt() -> None:
    draft = hypothesis("we met on monday to talk about the plan for next year")
    for refined, reason in [
        (None, Reason.REFINED_MISSING),
        (hypothesis(""), Reason.REFINED_EMPTY),
        (hypothesis("thank you " * 12), Reason.REFINED_LOOPING),
        (hypothesis("see you in the next one", compression_ratio=3.0), Reason.REFINED_LOOPING),
        (
            hypothesis("thanks for watching everybody", no_speech_prob=0.9, avg_logprob=-1.5),
            Reason.REFINED_HALLUCINATED,
        ),
        (hypothesis("okay"), Reason.REFINED_TOO_SHORT),
        (hypothesis(" ".join(f"entirely{i} different{i}" for i in range(40))), Reason.REFINED_TOO_LONG),
    ]:
        text, source, reasons = decide(draft, refined)
        assert (text, source) == ("we met on monday to talk about the plan for next year", Source.DRAFT), reason
        assert reason in reasons


HEARD = "we met on monday to talk about the plan"


def with_one_more(text: str, confidence: float, **word: bool) -> Hypothesis:
    """``text`` with a word more in its middle."""
    (phrase,) = hypothesis(text).phrases
    more = Word("indeed", phrase.words[3].end, phrase.words[4].start, confidence, **word)
    return Hypothesis("en", (replace(phrase, words=(*phrase.words[:4], more, *phrase.words[4:])),))


def test_a_doubtful_word_that_no_draft_heard_is_left_out() -> None:
    assert decide(hypothesis(HEARD), with_one_more(HEARD, 0.3)) == (HEARD, Source.REFINED, ())


@pytest.mark.parametrize(
    ("draft", "refined"),
    [
        pytest.param(hypothesis(HEARD), with_one_more(HEARD, 0.7), id="a sure word"),
        pytest.param(hypothesis(HEARD), with_one_more(HEARD, 0.3, glued=True), id="a part of a word"),
        pytest.param(
            hypothesis("he wept on sunday two walk abroad a man"), with_one_more(HEARD, 0.3), id="another reading"
        ),
        pytest.param(hypothesis("so " * 9), with_one_more(HEARD, 0.3), id="an unsound draft"),
        pytest.param(hypothesis(""), with_one_more(HEARD, 0.3), id="an empty draft"),
        pytest.param(None, with_one_more(HEARD, 0.3), id="no draft"),
    ],
)
def test_a_word_is_kept_without_a_good_witness_against_it(draft: Hypothesis | None, refined: Hypothesis) -> None:
    text, source, _ = decide(draft, refined)
    assert source == Source.REFINED
    assert "indeed" in text


def test_each_language_run_is_checked_and_labelled_separately() -> None:
    def phrase(text: str, start: float, language: str | None = None) -> Phrase:
        words = hypothesis(text, start=start).words
        return Phrase(words[0].start, words[-1].end, text, words, 0.8, language)

    spoken = (
        phrase("we have twenty five of them", 10),
        phrase("\u6211 \u4eec \u6709 \u4e8c \u5341 \u4e94 \u4e2a \u4e1c \u897f \u5728 \u8fd9 \u91cc", 14, "zh"),
        phrase("as you said", 21),
    )
    refined = Hypothesis("en", spoken)
    draft = hypothesis("we have twenty five of them")
    alignment = align(draft, refined, chunk=0, timeline=SPAN, digits=True)
    assert alignment.reasons == ()  # each language matches the script of its own words
    assert [segment.language for segment in alignment.segments] == ["en", "zh", "en"]
    assert [segment.index for segment in alignment.segments] == [0, 1, 2]
    assert "25 of them" in alignment.segments[0].text
    assert "25" in alignment.segments[1].text
    german = replace(refined, phrases=(spoken[0], replace(spoken[1], language="de"), spoken[2]))
    assert Reason.REFINED_WRONG_LANGUAGE in align(draft, german, chunk=0, timeline=SPAN).reasons
    assert Hypothesis.from_json(refined.to_json()) == refined


def test_a_repetitive_draft_replaces_nothing() -> None:
    text, source, reasons = decide(hypothesis("no " * 30), hypothesis("okay then"))
    assert (text, source) == ("okay then", Source.REFINED)
    assert reasons == (Reason.REFINED_TOO_SHORT, Reason.DRAFT_UNSOUND)


def test_no_doubts_where_both_hypotheses_are_empty() -> None:
    assert decide(hypothesis(""), hypothesis("")) == ("", Source.REFINED, ())
    assert decide(hypothesis("uh", confidence=0.2), hypothesis("")) == ("", Source.REFINED, ())


def test_agreement_raises_confidence_and_disagreement_lowers_it() -> None:
    (segment,) = align(hypothesis("one two"), hypothesis("One, three"), chunk=0, timeline=SPAN).segments
    assert segment.words[0].confidence > 0.8 > segment.words[1].confidence


def test_segments_end_with_sentences_and_pauses() -> None:
    segments = draft_segments(hypothesis("I said so to Mr. Smith today. He left then."), chunk=2, timeline=SPAN)
    assert [segment.text for segment in segments] == ["I said so to Mr. Smith today.", "He left then."]
    assert [segment.index for segment in segments] == [200, 201]


def test_repetition_is_detected_and_speech_is_not() -> None:
    assert is_repetitive(("I don't know " * 6).split())
    assert not is_repetitive(["no", "no", "no", "no"])
    assert not is_repetitive(["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"])
    assert is_repetitive(["哈"] * 20)


def test_cjk_words_join_without_spaces() -> None:
    words = [Word(c, 0, 1, 1) for c in ("你", "好", "Whisper", "模", "型")]
    assert join_words(words) == "你好 Whisper 模型"


times = st.floats(allow_nan=True, allow_infinity=True) | st.floats(0, 60)
words = st.builds(
    Word,
    text=st.text(max_size=8) | st.sampled_from(["yes.", "no", "好"]),
    start=times,
    end=times,
    confidence=st.floats(allow_nan=True) | st.floats(0, 1),
    glued=st.booleans(),
)
hypotheses = st.none() | st.builds(
    lambda ws: Hypothesis("en", (Phrase(0, 1, "", tuple(ws)),), {}), st.lists(words, max_size=150)
)


@settings(max_examples=200, deadline=None)
@given(hypotheses, hypotheses)
def test_segments_are_in_order_for_any_input(draft: Hypothesis | None, refined: Hypothesis | None) -> None:
    segments = align(draft, refined, chunk=4, timeline=SPAN).segments
    assert [s.index for s in segments] == list(range(400, 400 + len(segments)))
    assert len(segments) <= 100
    last = 10.0
    for segment in segments:
        assert segment.text.strip()
        assert 0 <= segment.confidence <= 1
        assert segment.start == segment.words[0].start
        assert segment.end == segment.words[-1].end
        for word in segment.words:
            assert last <= word.start <= word.end <= 40.0
            assert 0 <= word.confidence <= 1
            last = word.end


def test_long_speech_without_a_sentence_is_divided() -> None:
    segments = draft_segments(hypothesis("and " * 58), chunk=0, timeline=SPAN)
    assert all(s.end - s.start <= MAX_SEGMENT_SECONDS for s in segments)
    assert sum(len(s.words) for s in segments) == 58


def test_json_round_trip() -> None:
    original = replace(hypothesis("one two", avg_logprob=-0.5), language=None)
    assert Hypothesis.from_json(original.to_json()) == original


@pytest.mark.parametrize(
    ("text", "language", "wrong"),
    [
        ("thank you for watching this video", "zh", True),
        ("今天 meeting 的 agenda 是什么", "zh", False),
        ("спасибо за просмотр этого видео", "en", True),
        ("we met on Monday in the office", "en", False),
        ("ok ok", "zh", False),
        ("გამარჯობა როგორ ხარ დღეს მეგობარო", "ka", False),
        ("これはテストです。ありがとうございます", "ja", False),
        ("we met on Monday in the office", None, False),
    ],
)
def test_wrong_script(text: str, language: str | None, wrong: bool) -> None:
    assert is_wrong_script(text, language) is wrong


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        *(("ＡＢＣ１２", "ABC12"), ("你好,", "你好，"), ("吗?", "吗？"), ("好.", "好。")),
        *(("3.5", "3.5"), ("end.", "end."), ("，", "，")),
    ],
)
def test_normalised_script(text: str, normalised: str) -> None:
    assert normalise_script(text) == normalised
    assert normalise_script(normalise_script(text)) == normalised


def test_the_draft_replaces_a_refinement_in_another_language() -> None:
    draft = replace(hypothesis("今 天 天 气 很 好 我 们 出 去 走 走 吧"), language="zh")
    refined = replace(hypothesis("the weather is very nice today so let us go out"), language="zh")
    alignment = align(draft, refined, chunk=0, timeline=Timeline(((0, 30),)))
    assert alignment.source == Source.DRAFT
    assert Reason.REFINED_WRONG_LANGUAGE in alignment.reasons


def redacted(text: str, **signals: float) -> Hypothesis:
    return redact(hypothesis(text, **signals), frozenset(PersonalData), ("CN", "US"))[0]


class TestRedacted:
    """Both readings are redacted by themselves; no choice between them brings a number back."""

    def test_spelled_out_or_not_both_agree(self) -> None:
        draft = redacted("call me at one three eight double zero one three eight zero zero zero please")
        refined = redacted("call me at 138 0013 8000 please")
        text, source, reasons = decide(draft, refined)
        assert (text, source, reasons) == ("call me at [PHONE] please", Source.REFINED, ())
        text, source, _ = decide(draft, redacted("call me at 138 0013 8000 please", compression_ratio=3.0))
        assert (text, source) == ("call me at [PHONE] please", Source.DRAFT)
        assert decide(draft, None)[0] == "call me at [PHONE] please"

    def test_what_one_reading_misheard_the_other_still_covers(self) -> None:
        misheard = redacted("call me at 138 0013 800, please")
        right = redacted("call me at 138 0013 8000, please")
        assert "800" in join_words(misheard.words)
        assert decide(right, misheard)[0] == "call me at [PHONE], please"
        looping = replace(right, signals={"compression_ratio": 3.0})
        assert decide(misheard, looping)[:2] == ("call me at [PHONE], please", Source.DRAFT)
        mail = redacted("write to john@example.com please")
        assert decide(redacted("write to john@example please"), mail)[0] == "write to [EMAIL] please"
        assert decide(mail, redacted("write to john@example please"))[0] == "write to [EMAIL] please"

    def test_other_words_at_that_time_stay(self) -> None:
        refined = hypothesis("call me at home or at 10 please")
        assert (
            decide(redacted("call me at 138 0013 8000, please"), refined)[0] == "call me at home or at 10 please"
        )

    def test_many_numbers_are_neither_a_loop_nor_short(self) -> None:
        numbers = " ".join(["13800138000"] * 9)
        draft = hypothesis(" ".join(["11010519491231002"] * 9))
        assert decide(draft, redacted(numbers)) == (" ".join(["[PHONE]"] * 9), Source.REFINED, ())

    def test_placeholders_are_in_no_script(self) -> None:
        refined = replace(redacted("电话 " + "13800138000 " * 9), language="zh")
        assert decide(hypothesis("he said something else"), refined)[1:] == (Source.REFINED, ())
