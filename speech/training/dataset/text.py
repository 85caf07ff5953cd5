"""Normalises the spelling of training texts, whichever model or person wrote them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from glin_profanity import Filter
from opencc import OpenCC

from speech.text.script import is_cjk, normalise, normalise_script


@dataclass(frozen=True, slots=True)
class Cleaning:
    """Optional steps of cleaning.

    ``simplify``: traditional Chinese becomes simplified, in zh and yue. ``mask``: swear words become their first
    letter and asterisks.
    """

    simplify: bool = False
    mask: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cleaning:
        """Raises ValueError on unknown names, and on values that are not boolean."""
        for name, value in data.items():
            if name not in cls.__slots__:
                raise ValueError(
                    f"There is no step of cleaning called {name!r}; there are {', '.join(cls.__slots__)}."
                )
            if not isinstance(value, bool):
                raise ValueError(f"The step of cleaning {name!r} is true or false, not {value!r}.")
        return cls(**data)


CHINESE_LANGUAGES = frozenset({"zh", "yue"})

# Letters, digits and the signs of numbers in full width, kana in half width. Full-width punctuation is not
# among them: Chinese and Japanese are written with it.
NONSTANDARD_WIDTH = re.compile(
    "[\uff03-\uff06\uff0a\uff0b\uff0d-\uff19\uff1d\uff20-\uff3a\uff41-\uff5a\uff61-\uff9f]+"
)
CONTROL_TAG = re.compile(r"<\|[^|]*\|>")
"""Tokenizers read these as instructions: a transcript must not bring one into a training set."""
PUNCTUATION_RUN = re.compile(r"[,.;:!?，。；：！？、…]{2,}")
MAX_PASSES = 8
"""More than any text needs until it no longer changes."""


def clean(text: str, language: str | None, cleaning: Cleaning) -> str:
    """The text in one line and one spelling. Idempotent.

    Removes control and invisible characters and tokenizers' tags (``<|...|>``). Latin letters and digits become
    half width, punctuation follows the script before it, runs of punctuation become one mark, and blanks between
    Han or kana are removed as in a transcript.
    """
    for _ in range(MAX_PASSES):
        # removals can join characters that the next pass composes or collapses
        cleaned = _clean_once(text, simplify=cleaning.simplify and language in CHINESE_LANGUAGES)
        if cleaned == text:
            break
        text = cleaned
    return mask_profanity(text, language) if cleaning.mask else text


def _clean_once(text: str, *, simplify: bool) -> str:
    spaced = "".join(" " if c.isspace() else c for c in text)
    visible = "".join(c for c in spaced if unicodedata.category(c)[0] != "C")
    plain = unicodedata.normalize("NFC", CONTROL_TAG.sub("", visible))
    plain = NONSTANDARD_WIDTH.sub(lambda run: unicodedata.normalize("NFKC", run[0]), plain)
    if simplify:
        plain = to_simplified(plain)
    line = ""
    for token in plain.split():
        token = "".join(normalise_script(run) for run in _split_scripts(token))
        joined = not line or (is_cjk(line[-1]) and is_cjk(token[0]))
        line += token if joined else f" {token}"
    return PUNCTUATION_RUN.sub(lambda run: _collapse_punctuation(run[0]), line)


def _split_scripts(token: str) -> list[str]:
    """Single Han and kana characters, and runs of other scripts, each with the punctuation after it."""
    runs: list[str] = []
    for character in token:
        starts_run = character.isalnum() and (not runs or is_cjk(character) or is_cjk(runs[-1][0]))
        if starts_run or not runs:
            runs.append(character)
        else:
            runs[-1] += character
    return runs


def _collapse_punctuation(run: str) -> str:
    """One mark for a run of them: a question mark, an exclamation mark, an ellipsis, else the first."""
    for mark in "?？!！":
        if mark in run:
            return mark
    return "…" if set(run) <= set(".。…") else run[0]


def units(text: str) -> list[str]:
    """Words, with each character of Han or kana as a word of its own, without punctuation."""
    spaced = "".join(f" {c} " if is_cjk(c) else c for c in text)
    return [unit for unit in spaced.split() if normalise(unit)]


def to_simplified(text: str) -> str:
    """Traditional Chinese characters as simplified ones; regional vocabulary stays."""
    return str(_converter().convert(text)).translate(RARE_SIMPLIFIED)


@cache
def _converter() -> OpenCC:
    return OpenCC("t2s")


RARE_SIMPLIFIED = str.maketrans({"𠮶": "嗰"})
"""Cantonese "that": its simplified form is in OpenCC's tables, but neither people nor models write it."""


def mask_profanity(text: str, language: str | None) -> str:
    """Swear words as their first letter and an asterisk for each other letter; whole words only.

    Chinese and Japanese have no word boundaries: in them only English words are masked.
    """
    return _profanity(language).sub(lambda word: word[0][0] + "*" * (len(word[0]) - 1), text)


PROFANITY_LISTS = {
    "de": ("german",),
    "es": ("spanish",),
    "fr": ("french",),
    "it": ("italian",),
    "ko": ("english", "korean"),
    "nl": ("dutch",),
    "pl": ("polish",),
    "pt": ("portuguese",),
    "ru": ("russian",),
}
"""By language. The English list would match innocent words of other Latin scripts ("dick")."""


@cache
def _profanity(language: str | None) -> re.Pattern[str]:
    words: set[str] = Filter({"languages": list(PROFANITY_LISTS.get(language or "", ("english",)))}).words
    # phrases consist of innocent words ("tied up"), and other signs are chat spellings ("sh!t")
    alternatives = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True) if word.isalpha())
    # Han, kana and Hangul next to a Latin word are no part of it; Hangul next to Hangul is
    letter = "[^\\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
    hangul = "[\uac00-\ud7af]"
    pattern = f"(?<!{letter})(?!(?<={hangul}){hangul})(?:{alternatives})(?!{letter})(?!(?<={hangul}){hangul})"
    return re.compile(pattern, re.IGNORECASE)
