from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from speech.training.dataset.text import Cleaning, clean, units

PLAIN = Cleaning()
EVERYTHING = Cleaning(simplify=True, mask=True)


@pytest.mark.parametrize(
    ("language", "text", "cleaned"),
    [
        ("en", "  so ,\tit's\n 3.5  metres. ", "so , it's 3.5 metres."),
        ("en", "What?!! No!!! Well....", "What? No! Well…"),
        ("en", "zero\u200bwidth \ufeffand \x07bell\x00", "zerowidth and bell"),
        ("en", "say <|HAPPY|>cheese <|<|en|>zh|>", "say cheese"),
        ("zh", "你好,世界.  第３．５章", "你好，世界。第3.5章"),
        ("zh", "你 好 。。。 吗？？！", "你好…吗？"),
        ("zh", "我用ＧＰＴ－４，你呢?", "我用GPT-4，你呢？"),
        ("zh", "繁體字", "繁體字"),
        ("ja", "ﾊﾟﾝを 食べた｡ 「ｶﾞｽ」", "パンを食べた。「ガス」"),
        ("ko", "안녕하세요 ，  저는 \u1112\u1161\u11ab국인이에요.", "안녕하세요 ， 저는 한국인이에요."),
        ("fr", "e\u0301te\u0301", "été"),
        (None, "", ""),
    ],
)
def test_clean(language: str | None, text: str, cleaned: str) -> None:
    assert clean(text, language, PLAIN) == cleaned


@pytest.mark.parametrize(
    ("language", "text", "cleaned"),
    [
        ("zh", "後來他的頭髮乾了", "后来他的头发干了"),
        ("yue", "嗰個人喺邊度？", "嗰个人喺边度？"),
        ("ja", "後で髪を乾かす體", "後で髪を乾かす體"),
        ("en", "the word 漢字", "the word 漢字"),
    ],
)
def test_simplified_is_chinese_only(language: str, text: str, cleaned: str) -> None:
    assert clean(text, language, Cleaning(simplify=True)) == cleaned


@pytest.mark.parametrize(
    ("language", "text", "masked"),
    [
        ("en", "Shit, that fucking class in Scunthorpe", "S***, that f****** class in Scunthorpe"),
        (
            "en",
            "an assassin passed the cocktail and the analysis",
            "an assassin passed the cocktail and the analysis",
        ),
        ("en", "tied up with the girl on the left", "tied up with the girl on the left"),
        ("zh", "这fuck什么", "这f***什么"),
        ("ko", "씨발 진짜, 씨발점", "씨* 진짜, 씨발점"),
        ("de", "das ist dick, Arschloch", "das ist dick, A********"),
    ],
)
def test_masked_by_whole_words(language: str, text: str, masked: str) -> None:
    assert clean(text, language, Cleaning(mask=True)) == masked
    assert clean(text, language, PLAIN) == text.replace(",  ", ", ")


RICH = st.text(
    st.one_of(
        st.sampled_from(" .,!?…。，！？、<|>\u200b\u3000\u3099ｶﾞﾟＡ９．你好體嗰がカ한국\u1100\u1161e\u0301'-*"),
        st.characters(),
    ),
    max_size=40,
)


@settings(max_examples=400, deadline=None)
@given(RICH, st.sampled_from(["zh", "yue", "en", "ja", "ko", None]), st.booleans())
@example("か \u3099", "ja", False)
@example("e<|x|>\u0301", "en", False)
@example("ｶ\u3099", "ja", False)
def test_clean_text_is_clean(text: str, language: str | None, thoroughly: bool) -> None:
    cleaning = EVERYTHING if thoroughly else PLAIN
    once = clean(text, language, cleaning)
    assert clean(once, language, cleaning) == once
    assert once == once.strip()
    assert "  " not in once
    assert all(c == " " or unicodedata.category(c)[0] not in "CZ" for c in once)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello , it's GPT-4.", ["Hello", "it's", "GPT-4."]),
        ("你好，world", ["你", "好", "world"]),
        ("きょうは。", ["き", "ょ", "う", "は"]),
        ("안녕 하세요", ["안녕", "하세요"]),
        ("…", []),
    ],
)
def test_units(text: str, expected: list[str]) -> None:
    assert units(text) == expected


@pytest.mark.parametrize("data", [{"mask": "yes"}, {"lower": True}, {"mask": 1}])
def test_bad_cleaning_says_why(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="step of cleaning"):
        Cleaning.from_json(data)


def test_cleaning_as_json() -> None:
    assert Cleaning.from_json(EVERYTHING.to_json()) == EVERYTHING
    assert Cleaning.from_json({}) == PLAIN
