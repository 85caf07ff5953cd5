"""Personal data in a text."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from speech.text.redaction import digits, numbers
from speech.text.redaction.emails import emails
from speech.text.redaction.kinds import Found, PersonalData, most_specific


def find(text: str, kinds: Collection[PersonalData], regions: Sequence[str]) -> list[Found]:
    """What there is of these kinds, in order and without overlaps.

    ``regions`` are ISO 3166 codes: phone numbers are found as they are written there, and with a plus from
    anywhere.
    """
    folded = digits.fold(text)
    runs = digits.runs(text, folded)
    seen = digits.view(folded, runs)
    found: list[Found] = []
    for run in runs:
        if PersonalData.ID in kinds:
            found += numbers.resident_ids(folded, run)
            found += numbers.us_ids(folded, run)
        if PersonalData.CARD in kinds:
            found += numbers.cards(folded, run)
        if PersonalData.PHONE in kinds:
            found += numbers.phones(folded, run, regions)
    if PersonalData.ID in kinds:
        found += numbers.lettered_ids(seen)
    if PersonalData.EMAIL in kinds:
        found += emails(seen)
    return most_specific(found)
