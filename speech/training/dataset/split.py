"""Selects the people whose speech is held out for validation."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

MAX_HELD_OUT_SHARE = 0.5
"""Of all speech; the people held out may have it together."""


@dataclass(frozen=True, slots=True)
class PersonSpeech:
    """Seconds of one person's speech; ``human_seconds`` of them were corrected by somebody."""

    person: int
    seconds: float
    human_seconds: float
    tiebreak: str
    """Stable from one export to the next; its hash orders people."""


def select_held_out(people: Sequence[PersonSpeech], portion: float = 0.1) -> set[int]:
    """The numbers of the people whose speech makes the validation set.

    People with the largest share of corrected speech come first, and only their corrected speech counts. People
    are selected until their speech makes ``portion`` of all speech. A person who would bring the selection above
    ``MAX_HELD_OUT_SHARE`` is skipped, unless nobody is selected yet. Somebody always remains to train on, so with
    one person there is no validation set. Raises ValueError where a person is listed twice.
    """
    if len({person.person for person in people}) != len(people):
        raise ValueError("a person has more than one share of the speech")
    speaking = sorted((person for person in people if person.seconds > 0), key=_sort_key)
    total = math.fsum(person.seconds for person in speaking)
    selected: list[PersonSpeech] = []
    for person in speaking:
        enough = math.fsum(map(_validation_seconds, selected)) >= portion * total
        if enough or len(selected) + 1 == len(speaking):
            break
        held_out = math.fsum(one.seconds for one in [*selected, person])
        if not selected or held_out <= MAX_HELD_OUT_SHARE * total:
            selected.append(person)
    return {person.person for person in selected}


def _validation_seconds(person: PersonSpeech) -> float:
    return person.human_seconds or person.seconds


def _sort_key(person: PersonSpeech) -> tuple[float, str, int]:
    digest = hashlib.sha256(person.tiebreak.encode()).hexdigest()
    return -person.human_seconds / person.seconds, digest, person.person
