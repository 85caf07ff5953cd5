"""Hypotheses of models that give text without times, or without anything else that Whisper gives."""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from speech.asr.qwen import Part
from speech.engines import SAMPLE_RATE, Aligner, Utterance
from speech.text.retiming import words_of
from speech.text.script import has_cjk, likeness
from speech.text.timing import degenerate, timed
from speech.text.words import Hypothesis, Phrase, Word, mean_confidence

logger = logging.getLogger(__name__)

DRAFT, SPREAD = "draft", "spread"
"""What times words where no aligner does: the words of the draft, or nothing but their lengths."""

UNKNOWN_CONFIDENCE = 0.8
"""Of words of which nobody says how sure they are: neither left out as doubtful, nor a reason to be believed."""

LEAST_SIMILAR = 0.3
"""A draft that says something else has no times to lend."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a model wrote of an utterance."""

    parts: Sequence[Part]
    raw: str
    """All of it, from which loops are known."""
    units: Sequence[Word] = ()
    """Timed words, if the model has any."""
    confidences: Sequence[float] = ()
    """Of each word of the parts, if there are as many."""
    signals: Mapping[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return " ".join(part.text for part in self.parts)


def build_hypothesis(utterance: Utterance, heard: Heard, aligners: Sequence[Callable[[], Aligner]]) -> Hypothesis:
    """Words that have no times get them from the first of the aligners that loads and can, else from the draft."""
    language = _main_language(heard.parts) or utterance.language or utterance.expected
    signals = {"compression_ratio": compression_ratio(heard.raw)} if heard.raw else {}
    signals |= heard.signals
    if not heard.parts:
        return Hypothesis(language, (), signals)
    text, by = heard.text, None
    if heard.units and not degenerate(heard.units):
        words = timed(text, heard.units, _duration(utterance))
    else:
        words, by = _time(utterance, text, language or ("zh" if has_cjk(text) else "en"), aligners)
    trusted = heard.confidences
    if len(trusted) != len(words):
        trusted = [UNKNOWN_CONFIDENCE] * len(words)
    elif "avg_logprob" not in signals:
        signals["avg_logprob"] = sum(math.log(max(c, 1e-9)) for c in trusted) / len(trusted)
    words = tuple(replace(word, confidence=c) for word, c in zip(words, trusted, strict=True))
    phrases, at = [], 0
    for part in heard.parts:
        own = words[at : at + len(words_of(part.text))]
        at += len(own)
        other = part.language if part.language != language else None
        phrases.append(Phrase(own[0].start, own[-1].end, part.text, own, mean_confidence(own), other))
    return Hypothesis(language, tuple(phrases), signals, word_times=by)


def _duration(utterance: Utterance) -> float:
    return len(utterance.samples) / SAMPLE_RATE


def compression_ratio(text: str) -> float:
    """As in Whisper: much above 2 where a text repeats itself."""
    data = text.encode(errors="replace")  # JSON may hold half a character
    return len(data) / len(zlib.compress(data))


def _main_language(parts: Sequence[Part]) -> str | None:
    """The language of most of the text."""
    return max(parts, key=lambda part: len(part.text)).language if parts else None


def _time(
    utterance: Utterance, text: str, language: str, aligners: Sequence[Callable[[], Aligner]]
) -> tuple[tuple[Word, ...], str]:
    """Words with times, and what gave them."""
    duration = _duration(utterance)
    for load in aligners:
        try:
            aligner = load()
            units = aligner.align(utterance.samples, text, language) if language in aligner.languages else []
        except Exception as error:  # noqa: BLE001  (there is another way to time the words)
            logger.warning("an aligner has no times for a chunk: %s", type(error).__name__)
            continue
        if units and not degenerate(units):
            return timed(text, units, duration), aligner.name
    if _similar(utterance.draft, text):
        return timed(text, utterance.draft, duration), DRAFT
    return timed(text, (), duration), SPREAD


def _similar(draft: Sequence[Word], text: str) -> bool:
    return bool(draft) and likeness(words_of(text), draft) >= LEAST_SIMILAR
