"""What a reader of a live transcript sees: when words stand there for good, and how often they change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import pairwise

from speech.text.words import Word


@dataclass
class Shown:
    """A transcript as it grew: all of its text, by the seconds since the sound began."""

    states: list[tuple[float, str]] = field(default_factory=list)
    processor_seconds: float = 0.0

    def add(self, at: float, text: str) -> None:
        if not self.states or self.states[-1][1] != text:
            self.states.append((at, text))

    @property
    def text(self) -> str:
        return self.states[-1][1] if self.states else ""

    @property
    def revisions(self) -> int:
        """Times that words were changed, and not only continued."""
        keys = [_keys(text) for _, text in self.states]
        return sum(later[: len(earlier)] != earlier for earlier, later in pairwise(keys))

    def delays(self, spoken: Sequence[Word]) -> list[float]:
        """Seconds from the end of words until they stood there for good, with all before them.

        ``spoken`` has the times of what was said; words that are not among them count for nothing.
        """
        final = _keys(self.text)
        stood = [0.0] * len(final)
        good = len(final)
        # from the last state back: a word stands for as long as all up to it are as they are in the end
        for at, text in reversed(self.states):
            same = 0
            for word, other in zip(_keys(text), final, strict=False):
                if word != other:
                    break
                same += 1
            good = min(good, same)
            stood[:good] = [at] * good
        said = [key for word in spoken for key in _keys(word.text)[:1]]
        ends = [word.end for word in spoken if _keys(word.text)]
        matches = SequenceMatcher(None, said, final, autojunk=False).get_matching_blocks()
        return [stood[match.b + place] - ends[match.a + place] for match in matches for place in range(match.size)]


def _keys(text: str) -> list[str]:
    bare = ("".join(c for c in word.casefold() if c.isalnum()) for word in text.split())
    return [word for word in bare if word]
