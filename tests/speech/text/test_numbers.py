from __future__ import annotations

import pytest

from speech.text.numbers import with_digits
from speech.text.script import join_words
from speech.text.words import Word


def words(text: str, *, characters: bool = False) -> list[Word]:
    pieces = list(text) if characters else text.split()
    return [Word(piece, 0.5 * n, 0.5 * n + 0.4, 0.8, characters) for n, piece in enumerate(pieces)]


@pytest.mark.parametrize(
    ("language", "spoken", "written"),
    [
        ("en", "twenty five people and one more", "25 people and one more"),
        ("en", "two thousand and twenty six, five times.", "2026, 5 times."),
        ("en", "the twenty first century", "the 21st century"),
        ("en", "two point five percent", "2.5 percent"),
        ("en", "one of us", "one of us"),
        ("en", "nothing at all", "nothing at all"),
        ("de", "dreiundzwanzig Leute", "23 Leute"),
        ("fr", "vingt-cinq personnes", "25 personnes"),
        ("ja", "twenty five", "twenty five"),
        (None, "twenty five", "twenty five"),
    ],
)
def test_words(language: str | None, spoken: str, written: str) -> None:
    assert join_words(with_digits(words(spoken), language)) == written


@pytest.mark.parametrize(
    ("spoken", "written"),
    [
        ("有二十三个苹果", "有23个苹果"),
        ("两千零二十六年", "2026年"),
        ("三点五公里", "3.5公里"),
        ("一万两千人", "12000人"),
        ("一千二百三十四万五千六百七十八元", "12345678元"),
        ("二〇二六年", "2026年"),
        ("一定", "一定"),
        ("三心二意", "三心二意"),
        ("一一说明", "一一说明"),
    ],
)
def test_characters(spoken: str, written: str) -> None:
    assert join_words(with_digits(words(spoken, characters=True), "zh")) == written


def test_a_number_spans_the_words_that_it_was() -> None:
    before, number, after = with_digits(words("some twenty five people"), "en")
    assert (number.text, number.start, number.end) == ("25", 0.5, 1.4)
    assert number.confidence == pytest.approx(0.8)
    assert (before.end, after.start) == (0.4, 1.5)


def test_silence_divides_numbers() -> None:
    apart = [Word("twenty", 0, 0.4, 1), Word("five", 2, 2.4, 1)]
    assert [word.text for word in with_digits(apart, "en")] == ["20", "5"]
