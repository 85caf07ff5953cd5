from __future__ import annotations

import json
from typing import Any

import pytest

from speech.training.dataset.filters import Filters, Reason
from speech.training.dataset.rejection import CHECKS, disagreement, fingerprint, reject
from tests.speech.training.dataset.samples import TEXT, candidate

ZH = {"language": "zh", "text": "我们在港口见面", "draft": "我们在港口见面", "refined": "我们在港口见面"}

CORRECTED = {"human": True, "draft": None, "refined": None}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"end": 61.75, "text": "we met"},  # just long enough
        {**CORRECTED, "confidence": 0.0},
        {"human": True, "draft": "nothing like it"},
        {"confidence": 0.6},
        {"draft": "We met, in the old harbor; and talked!"},
        ZH,
        {**ZH, "draft": "我們在港口見面"},
        {**ZH, "language": "yue"},
        {"language": "ja", "text": "きのうはともだちにあいました", **CORRECTED},
        {"language": "ko", "text": "어제 친구를 만났어요", **CORRECTED},
        {"language": "zh", "text": "GPT-4模型很好用", **CORRECTED},
        {"text": "25", **CORRECTED, "end": 62.75},
        {"text": "no no no no", **CORRECTED},
    ],
)
def test_accepted(changes: dict[str, Any]) -> None:
    assert reject(candidate(**changes), Filters()) is None


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        (Reason.NO_CONSENT, {"consent": False}),
        (Reason.NOT_RETAINED, {"retained": False}),
        (Reason.TOO_SHORT, {"end": 61.7}),
        (Reason.TOO_LONG, {"end": 91.3}),
        (Reason.NO_TEXT, {"text": ""}),
        (Reason.NO_TEXT, {"text": "… ？!"}),
        (Reason.REDACTED, {"text": "call me at [PHONE]."}),
        (Reason.REDACTED, {"text": "我的电话是[PHONE]", **CORRECTED}),
        (Reason.LANGUAGE, {"language": "fr"}),
        (Reason.LANGUAGE, {"language": None}),
        (Reason.UNREFINED, {"draft": None}),
        (Reason.UNREFINED, {"refined": None}),
        (Reason.DISAGREEMENT, {"draft": ""}),
        (Reason.DISAGREEMENT, {"draft": "we met in the cold arbour"}),
        (Reason.DISAGREEMENT, {**ZH, "draft": "我们在岗口碰面"}),
        (Reason.IMPLAUSIBLE, {"text": "bananas never fly", "human": True}),
        (Reason.UNCERTAIN, {"confidence": 0.59}),
        (Reason.REPETITION, {"text": "and then and then and then and then and then", **CORRECTED}),
        (Reason.REPETITION, {**ZH, "text": "好的好的好的好的好的", **CORRECTED}),
        (Reason.SPEECH_RATE, {"end": 90.0}),  # eight words in half a minute
        (Reason.SPEECH_RATE, {"end": 62.25}),  # and in a second
        (Reason.SPEECH_RATE, {**ZH, "end": 61.85}),
        (Reason.SPEECH_RATE, {**ZH, "end": 69.25}),
        (Reason.SPEECH_RATE, {"language": "ko", "text": "어제 친구를 만났어요", **CORRECTED, "end": 62.0}),
    ],
)
def test_rejected(reason: Reason, changes: dict[str, Any]) -> None:
    assert reject(candidate(**changes), Filters()) is reason


def test_consent_is_checked_first() -> None:
    nothing = candidate(consent=False, retained=False, text="", end=0.0)
    assert reject(nothing, Filters()) is Reason.NO_CONSENT
    assert CHECKS[0](nothing, Filters()) is Reason.NO_CONSENT


def test_bounds_are_the_filters() -> None:
    strict = Filters(max_seconds=2.0)
    assert reject(candidate(), strict) is Reason.TOO_LONG
    assert reject(candidate(language="fr"), Filters(languages=("fr",))) is None


@pytest.mark.parametrize(
    ("a", "b", "share"),
    [
        ("Hello, world", "hello world", 0.0),
        ("abcd", "abce", 0.25),
        ("", "", 0.0),
        ("", "abc", 1.0),
        ("漢字，轉換", "汉字转换。", 0.0),
        ("ＡＢ", "ab", 0.0),
    ],
)
def test_disagreement(a: str, b: str, share: float) -> None:
    assert disagreement(a, b) == disagreement(b, a) == pytest.approx(share)


def test_fingerprint() -> None:
    assert fingerprint("Hello, world!", 2.512) == fingerprint("hello world", 2.548)
    assert fingerprint("hello world", 2.5) != fingerprint("hello world", 2.7)
    assert fingerprint("hello world", 2.5) != fingerprint("hello word", 2.5)
    assert len(fingerprint(TEXT, 1.0)) == 64


def test_filters_as_json() -> None:
    filters = Filters.from_json({"min_seconds": 1, "languages": ["zh", "en"], "max_repeats": 5})
    assert filters == Filters(min_seconds=1.0, languages=("zh", "en"), max_repeats=5)
    assert Filters.from_json(json.loads(json.dumps(filters.to_json()))) == filters
    assert Filters.from_json({}) == Filters()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"min_second": 1}, "no filter called 'min_second'; there are min_seconds"),
        ({"min_seconds": "1"}, "min_seconds must be a number"),
        ({"min_seconds": True}, "min_seconds must be a number"),
        ({"min_snr": float("nan")}, "min_snr must be a number"),
        ({"min_seconds": 0}, "min_seconds must be more than 0"),
        ({"min_seconds": 40}, "at most max_seconds"),
        ({"min_rate": 30}, "at most max_rate"),
        ({"max_disagreement": 1.5}, "from 0 to 1"),
        ({"max_repeats": 1.5}, "whole number"),
        ({"max_repeats": 0}, "1 or more"),
        ({"languages": "zh"}, "list of language codes"),
        ({"languages": []}, "at least one language"),
    ],
)
def test_bad_filters_say_why(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Filters.from_json(data)
