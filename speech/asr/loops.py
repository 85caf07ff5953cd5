"""Loops: what repeats itself, decoded again too, is cut in two, and each half decoded anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from speech.engines import SAMPLE_RATE, Samples, Utterance
from speech.text.repetition import drop_repeats, is_repetitive
from speech.text.words import Hypothesis, Phrase

MAX_COMPRESSION_RATIO = 2.4
MIN_SECONDS = 4.0
"""Shorter audio is not cut further: what repeats itself there is left out."""
SMOOTHING_SECONDS = 0.1


def is_loop(hypothesis: Hypothesis) -> bool:
    ratio = hypothesis.signals.get("compression_ratio", 0.0)
    return ratio > MAX_COMPRESSION_RATIO or is_repetitive(word.text for word in hypothesis.words)


def break_loop(
    utterance: Utterance, looping: Hypothesis, transcribe: Callable[[Sequence[Utterance]], list[Hypothesis]]
) -> Hypothesis:
    """A hypothesis without the loop, from halves that ``transcribe`` decodes; it breaks their loops in turn."""
    halves = halve(utterance, looping)
    return join(halves, transcribe(halves)) if halves else without_repeats(looping)


def halve(utterance: Utterance, looping: Hypothesis) -> list[Utterance]:
    """Both halves of what gave a loop; none if it is too short for that."""
    if len(utterance.samples) < 2 * MIN_SECONDS * SAMPLE_RATE:
        return []
    middle = quietest_middle(utterance.samples)
    # the language is known by now, and must not change with less to hear
    expected = utterance.expected if utterance.translate else looping.language
    return [
        replace(utterance, samples=samples, expected=expected, url=None, draft=(), before=())
        for samples in (utterance.samples[:middle], utterance.samples[middle:])
    ]


def without_repeats(looping: Hypothesis) -> Hypothesis:
    return replace(looping, phrases=tuple(_without_repeats(looping.phrases)))


def quietest_middle(samples: Samples) -> int:
    """The sample with the least sound around it in the middle third."""
    width = int(SMOOTHING_SECONDS * SAMPLE_RATE)
    loudness = np.convolve(np.abs(samples), np.ones(width) / width, mode="same")
    first, last = len(samples) // 3, 2 * len(samples) // 3
    return first + int(np.argmin(loudness[first:last]))


def _without_repeats(phrases: Sequence[Phrase]) -> Iterator[Phrase]:
    words = [word for phrase in phrases for word in phrase.words]
    kept = set(map(id, drop_repeats(words, key=lambda word: word.text)))
    for phrase in phrases:
        left = tuple(word for word in phrase.words if id(word) in kept)
        if left == phrase.words:
            yield phrase
        elif left:
            text = "".join(word.text if word.glued else f" {word.text}" for word in left).strip()
            yield replace(phrase, words=left, text=text, start=left[0].start, end=left[-1].end)


def join(utterances: Sequence[Utterance], hypotheses: Sequence[Hypothesis]) -> Hypothesis:
    """One hypothesis of both halves.

    The main language is that of more words; the signals are the worse of the halves that have words.
    """
    first, second = hypotheses
    second = second.shifted(len(utterances[0].samples) / SAMPLE_RATE)
    halves = [half for half in (first, second) if half.words] or [first]
    main = max(halves, key=lambda half: len(half.words)).language
    phrases = tuple(
        replace(phrase, language=None if language == main else language)
        for half in (first, second)
        for phrase in half.phrases
        for language in (phrase.language or half.language,)
    )
    worse = {"compression_ratio": max, "temperature": max, "no_speech_prob": max}
    signals = {
        name: worse.get(name, min)(half.signals[name] for half in halves if name in half.signals)
        for name in dict.fromkeys(name for half in halves for name in half.signals)
    }
    return replace(first, language=main, phrases=phrases, signals=signals)
