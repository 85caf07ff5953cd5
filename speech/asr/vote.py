"""A vote of several readings of the same sound, word by word.

(The method is that of Fiscus, "A post-processing system to yield reduced word error rates: Recognizer Output
Voting Error Reduction (ROVER)", 1997: words are aligned one reading after the other, and each place is voted on.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from speech.text.script import join_words, normalise
from speech.text.words import Hypothesis, Phrase, Word, mean_confidence

SILENCE_CONFIDENCE = 0.8
"""Of a reading that has no word where others have one: engines give none for what they do not write."""

Place = list[Word | None]
"""The words that the readings so far have at one place of the text, None where a reading has nothing."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Words in order, and what one vote of theirs counts."""

    words: Sequence[Word]
    weight: float = 1.0


def vote(first: Hypothesis, *others: Reading) -> Hypothesis:
    """The first reading, in whose phrases each place holds what most of the confidence is for.

    Of equal words the earlier reading's is taken, with its spelling and time.
    """
    readings = [Reading(first.words), *others]
    places: list[Place] = [[word] for word in first.words]
    for reading in others:
        places = _aligned(places, reading.words)
    weights = [reading.weight for reading in readings]
    phrases = _by_phrase(first.phrases, places)
    return replace(first, phrases=tuple(filter(None, (_elected(phrase, of, weights) for phrase, of in phrases))))


def _aligned(places: Sequence[Place], words: Sequence[Word]) -> list[Place]:
    """The places with one more reading: its words stand with equal ones if they can, else with others."""
    known = [{normalise(word.text) for word in place if word} for place in places]
    texts = [normalise(word.text) for word in words]
    # edit distance of the first places to the first words
    cost = [list(range(len(words) + 1))]
    for i, told in enumerate(known):
        row, above = [i + 1], cost[i]
        for j, text in enumerate(texts):
            row.append(min(above[j] + (text not in told), above[j + 1] + 1, row[j] + 1))
        cost.append(row)
    nobody: Place = [None] * len(places[0]) if places else [None]
    aligned, i, j = [], len(places), len(words)
    while i or j:
        if i and j and cost[i][j] == cost[i - 1][j - 1] + (texts[j - 1] not in known[i - 1]):
            i, j = i - 1, j - 1
            aligned.append([*places[i], words[j]])
        elif i and cost[i][j] == cost[i - 1][j] + 1:
            i -= 1
            aligned.append([*places[i], None])
        else:
            j -= 1
            aligned.append([*nobody, words[j]])
    return aligned[::-1]


def _by_phrase(phrases: Sequence[Phrase], places: Sequence[Place]) -> list[tuple[Phrase, list[Place]]]:
    """Each place with the phrase of the last word of the first reading up to there."""
    owners = iter([number for number, phrase in enumerate(phrases) for _ in phrase.words])
    parts: list[list[Place]] = [[] for _ in phrases]
    owner = 0
    for place in places:
        if place[0] is not None:
            owner = next(owners)
        parts[owner].append(place)
    return list(zip(phrases, parts, strict=True))


def _elected(phrase: Phrase, places: Sequence[Place], weights: Sequence[float]) -> Phrase | None:
    words = tuple(word for place in places if (word := _winner(place, weights)))
    if not words:
        return None
    start, end = min(phrase.start, words[0].start), max(phrase.end, words[-1].end)
    return replace(
        phrase, start=start, end=end, text=join_words(words), words=words, confidence=mean_confidence(words)
    )


def _winner(place: Place, weights: Sequence[float]) -> Word | None:
    votes: dict[str | None, float] = defaultdict(float)
    for word, weight in zip(place, weights, strict=True):
        text, confidence = (normalise(word.text), word.confidence) if word else (None, SILENCE_CONFIDENCE)
        votes[text] += weight * confidence
    text = max(votes, key=lambda text: votes[text])
    return next((word for word in place if word and normalise(word.text) == text), None)
