"""Inverse text normalisation: spelled-out numbers as digits, in timed words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cn2an
from text_to_num import Token, find_numbers

from speech.text.script import join_words
from speech.text.words import Hypothesis, Phrase, Word

SPELLED_LANGUAGES = frozenset({"en", "fr", "es", "pt", "de", "it", "nl"})
"""Languages whose numbers are sequences of words."""

CHINESE_LANGUAGES = frozenset({"zh", "yue"})
NUMERALS = frozenset("零〇一二两三四五六七八九十百千万亿点")
UNITS = frozenset("十百千万亿点")
MIN_DIGITS = 4
"""A shorter run of numerals without a unit is a figure of speech."""

MAX_PAUSE_SECONDS = 0.5
"""A longer silence between two words divides numbers."""


def with_digits(words: Sequence[Word], language: str | None) -> tuple[Word, ...]:
    """The words with their numbers in digits; a number is one word from its first to its last.

    ``twenty five`` becomes ``25`` and ``两千零二十六`` becomes ``2026``; a lone ``one`` stays.
    Other languages are unchanged.
    """
    if language in SPELLED_LANGUAGES:
        return _replace_spans(words, _spelled_numbers(words, language))
    if language in CHINESE_LANGUAGES:
        return _replace_spans(words, _chinese_numbers(words))
    return tuple(words)


def hypothesis_with_digits(hypothesis: Hypothesis) -> Hypothesis:
    """The same of a whole hypothesis. A number that goes on in the next phrase is in that of its first word."""
    converted = [word for language, words in hypothesis.by_language for word in with_digits(words, language)]
    if converted == list(hypothesis.words):
        return hypothesis
    phrases: list[Phrase] = []
    taken = 0
    for phrase in hypothesis.phrases:
        mine = []
        last = phrase.words[-1].start if phrase.words else -1.0
        while taken < len(converted) and converted[taken].start <= last:
            mine.append(converted[taken])
            taken += 1
        if mine or not phrase.words:
            text = join_words(mine) if mine else phrase.text
            end = max(phrase.end, mine[-1].end) if mine else phrase.end
            phrases.append(replace(phrase, words=tuple(mine), text=text, end=end))
    return replace(hypothesis, phrases=tuple(phrases))


NumberSpans = Iterator[tuple[int, int, str]]
"""First word, one past the last word, digits."""


def _replace_spans(words: Sequence[Word], spans: NumberSpans) -> tuple[Word, ...]:
    result: list[Word] = []
    done = 0
    for first, end, digits in spans:
        number = words[first:end]
        confidence = sum(word.confidence for word in number) / len(number)
        punctuation = re.search(r"[^\w]*$", number[-1].text)
        text = digits + (punctuation.group() if punctuation else "")
        result += words[done:first]
        result.append(Word(text, number[0].start, number[-1].end, confidence, number[0].glued))
        done = end
    return (*result, *words[done:])


@dataclass(frozen=True)
class _LibraryToken(Token):  # type: ignore[misc]
    """A word as a token of text_to_num."""

    word: Word

    def text(self) -> str:
        return self.word.text.strip(".,;:!?\"'()").lower()

    def nt_separated(self, previous: Token) -> bool:
        """Punctuation and silence divide numbers."""
        assert isinstance(previous, _LibraryToken)  # noqa: S101  (all tokens are ours)
        before = previous.word
        return before.text[-1:] in ".,;:!?" or self.word.start - before.end > MAX_PAUSE_SECONDS


def _spelled_numbers(words: Sequence[Word], language: str) -> NumberSpans:
    for number in find_numbers([_LibraryToken(word) for word in words], language):
        yield number.start, number.end, number.text


def _chinese_numbers(words: Sequence[Word]) -> NumberSpans:
    """Runs of numerals that are numbers, not figures of speech."""
    position = 0
    while position < len(words):
        end = position
        while end < len(words) and set(words[end].text) <= NUMERALS and words[end].text:
            end += 1
        run = "".join(word.text for word in words[position:end])
        if end - position >= 2 and (digits := _digits(run)) is not None:
            yield position, end, digits
        position = max(end, position + 1)


def _digits(run: str) -> str | None:
    """A run of numerals as a number; None where it is a figure of speech."""
    if not UNITS & set(run):
        return _digit_by_digit(run) if len(run) >= MIN_DIGITS else None
    try:
        number = cn2an.cn2an(run.replace("〇", "零"), "smart")
    except ValueError:
        return None
    return str(int(number) if number == int(number) else number)


def _digit_by_digit(run: str) -> str:
    """Numerals that were spoken as single digits."""
    return "".join(str("零一二三四五六七八九".index(c.replace("〇", "零").replace("两", "二"))) for c in run)
