"""What of a growing utterance can be told to anybody: what two hypotheses in a row agree on, never taken back.

(The policy is LocalAgreement-2 of "Low-Latency Sequence-to-Sequence Speech Recognition and Translation by Partial
Hypothesis Selection", Liu et al. 2020.)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from speech.text.words import Word

HELD_BACK = 1
"""Words at the end of a hypothesis that are never stable: the newest is often half heard."""


class Agreement:
    """The stable words of one utterance. They only ever grow."""

    def __init__(self) -> None:
        self.stable: tuple[Word, ...] = ()
        self._previous: tuple[str, ...] = ()
        """The last hypothesis behind the stable words, as it is compared."""

    def add(self, hypothesis: Sequence[Word]) -> tuple[tuple[Word, ...], tuple[Word, ...]]:
        """(stable, unstable) words after one more hypothesis of the utterance."""
        rest = words_behind(self.stable, hypothesis)
        keys = tuple(map(key, rest))
        held = keys[: max(0, len(keys) - HELD_BACK)]
        agreed = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(held, self._previous, strict=False))))
        self.stable += rest[:agreed]
        self._previous = keys[agreed:]
        return self.stable, rest[agreed:]

    def finish(self, hypothesis: Sequence[Word]) -> tuple[Word, ...]:
        """All words, by a last hypothesis of the whole utterance: the stable ones, and what it has behind them."""
        return self.stable + words_behind(self.stable, hypothesis)


def words_behind(stable: Sequence[Word], hypothesis: Sequence[Word]) -> tuple[Word, ...]:
    """The words of a hypothesis behind those that best match the stable ones."""
    beginning = best_beginning([key(word) for word in stable], [key(word) for word in hypothesis])
    return tuple(hypothesis[beginning:])


def key(word: Word) -> str:
    """What two words have in common that are the same but for case and punctuation."""
    bare = "".join(c for c in word.text.casefold() if c.isalnum())
    return bare or word.text


def best_beginning(said: Sequence[str], heard: Sequence[str]) -> int:
    """How many of the words ``heard`` make the beginning with the least edits to ``said``; the longest of several.

    Where ``heard`` is shorter, all of it may be meant.
    """
    costs = list(range(len(heard) + 1))
    for count, word in enumerate(said, 1):
        diagonal, costs[0] = costs[0], count
        for place, other in enumerate(heard, 1):
            diagonal, costs[place] = (
                costs[place],
                min(diagonal + (word != other), costs[place] + 1, costs[place - 1] + 1),
            )
    least = min(costs)
    return max(place for place, cost in enumerate(costs) if cost == least)
