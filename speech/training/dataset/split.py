"""Whose speech is kept for validation."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

LARGEST = 0.5
"""Share of all speech that the people held out may have, together."""


@dataclass(frozen=True, slots=True)
class Share:
    """How much of the speech is one person's, and how much of that a person corrected, in seconds."""

    person: int
    seconds: float
    human_seconds: float
    tiebreak: str
    """What tells people apart from one export to the next; its hash orders them."""


def held_out(shares: Sequence[Share], portion: float = 0.1) -> set[int]:
    """The people whose speech makes the validation set, one :class:`Share` each, in any order.

    Those with corrected speech come first, most of it corrected before the others, and of them only the
    corrected speech counts: it is what validation needs. People are taken until their speech makes ``portion``
    of everybody's. Who would bring those held out to more than half of all speech is passed over, except as the
    first; somebody is always left to train on, so there is no validation set of one person.
    Raises ValueError where a person has two shares.
    """
    if len({share.person for share in shares}) != len(shares):
        raise ValueError("a person has more than one share of the speech")
    speaking = sorted((share for share in shares if share.seconds > 0), key=_precedence)
    everything = math.fsum(share.seconds for share in speaking)
    taken: list[Share] = []
    for share in speaking:
        enough = math.fsum(map(_use, taken)) >= portion * everything
        if enough or len(taken) + 1 == len(speaking):
            break
        together = math.fsum(one.seconds for one in [*taken, share])
        if not taken or together <= LARGEST * everything:
            taken.append(share)
    return {share.person for share in taken}


def _use(share: Share) -> float:
    """Seconds that a person adds to the validation set."""
    return share.human_seconds or share.seconds


def _precedence(share: Share) -> tuple[float, str, int]:
    drawn = hashlib.sha256(share.tiebreak.encode()).hexdigest()
    return -share.human_seconds / share.seconds, drawn, share.person
