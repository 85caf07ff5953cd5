"""Context that comes back as text.

Models that take a context sometimes say it instead of what they hear: a list of hotwords for a hum, or in front of
a sentence (https://github.com/QwenLM/Qwen3-ASR/issues/106 and /140; Whisper does so with its prompt). Nothing in a
text tells an echo from somebody who says these words, so what looks like one is heard again without the context.
"""

from __future__ import annotations

from collections.abc import Sequence

from speech.text.retiming import words_of
from speech.text.script import normalise

LEAST_TERMS = 3
"""So many hotwords one behind the other are no sentence."""

LEAST_PRECEDING_WORDS = 4


def is_echo(text: str, hotwords: Sequence[str], preceding: str = "") -> bool:
    """Whether a text holds a list of the hotwords, is nothing but some of them, or repeats what came before."""
    said = _units(text)
    if not said:
        return False
    terms = [units for term in hotwords if (units := _units(term))]
    before = _units(preceding)[-LEAST_PRECEDING_WORDS:]
    repeats = len(before) == LEAST_PRECEDING_WORDS and _find(said, before)
    return repeats or _has_list(said, terms) or _is_made_of(said, terms)


def _units(text: str) -> list[str]:
    return [unit for word in words_of(text) if (unit := normalise(word.text))]


def _find(said: Sequence[str], wanted: Sequence[str]) -> bool:
    return any(list(said[at : at + len(wanted)]) == list(wanted) for at in range(len(said) - len(wanted) + 1))


def _has_list(said: Sequence[str], terms: Sequence[Sequence[str]]) -> bool:
    """Whether LEAST_TERMS hotwords stand one behind the other."""
    for start in range(len(said)):
        at, count = start, 0
        while count < LEAST_TERMS and (length := _term_at(said, at, terms)):
            at, count = at + length, count + 1
        if count == LEAST_TERMS:
            return True
    return False


def _is_made_of(said: Sequence[str], terms: Sequence[Sequence[str]]) -> bool:
    at = 0
    while at < len(said) and (length := _term_at(said, at, terms)):
        at += length
    return at == len(said)


def _term_at(said: Sequence[str], at: int, terms: Sequence[Sequence[str]]) -> int:
    """The length of the longest hotword that stands here; 0 if none does."""
    return max((len(term) for term in terms if list(said[at : at + len(term)]) == list(term)), default=0)
