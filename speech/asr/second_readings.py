"""Second readings: what was read with doubt is read twice more, a little later each time, and all readings vote.

With a quarter of a second of silence before it, the same sound lies in other frames. What a model makes of clear
speech stays then, and what it guesses changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from speech.asr.loops import is_loop
from speech.asr.vote import Reading, vote
from speech.engines import SAMPLE_RATE, Utterance
from speech.text.script import likeness, split_characters
from speech.text.words import Hypothesis, Word

MIN_TRUST = 0.05
"""Of a first reading: how like the draft its words are, from 0 to 1, and half its average log probability. A tenth
of the chunks has less where accents are strong, hardly one of clear speech."""

SHIFTS = (0.25, 0.5)
"""Seconds of silence before the sound."""

MAX_SECONDS = 30.0
"""With the silence: of a longer chunk the last words would be missed twice, and voted out."""

UNDIVIDED = frozenset({"th", "lo", "my"})
"""Languages whose drafts are phrases without spaces, not words."""

DRAFT_WEIGHT = 0.8
"""The draft is of a weaker model."""


def is_doubtful(utterance: Utterance, first: Hypothesis) -> bool:
    """Whether words of the first reading are in doubt, and there is a draft that may decide, in its language."""
    if not (utterance.draft and first.words) or utterance.translate or len(first.by_language) > 1:
        return False
    if first.language in UNDIVIDED or len(utterance.samples) > (MAX_SECONDS - max(SHIFTS)) * SAMPLE_RATE:
        return False
    return likeness(_draft(utterance), first.words) + first.signals["avg_logprob"] / 2 < MIN_TRUST


def shifted(utterance: Utterance, first: Hypothesis) -> list[Utterance]:
    """What is read for the second readings, in the language of the first."""
    return [
        replace(
            utterance,
            samples=np.concatenate([np.zeros(round(shift * SAMPLE_RATE), np.float32), utterance.samples]),
            language=first.language,
            expected=None,
        )
        for shift in SHIFTS
    ]


def elect(utterance: Utterance, first: Hypothesis, others: Sequence[Hypothesis]) -> Hypothesis:
    """The words that most of the readings and the draft are for; a reading that repeats itself has no vote."""
    readings = [
        Reading(other.shifted(-shift).words)
        for other, shift in zip(others, SHIFTS, strict=True)
        if not is_loop(other)
    ]
    return vote(first, *readings, Reading(_draft(utterance), DRAFT_WEIGHT)) if readings else first


def _draft(utterance: Utterance) -> list[Word]:
    """Its words, one character each where the refined ones are."""
    return [part for word in utterance.draft for part in split_characters(word)]
