"""Phone numbers, payment cards and ids among digits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from phonenumbers import (
    Leniency,
    PhoneMetadata,
    PhoneNumber,
    PhoneNumberMatcher,
    PhoneNumberType,
    number_type,
    region_code_for_country_code,
)
from stdnum import iban, luhn
from stdnum.cn import ric
from stdnum.exceptions import ValidationError
from stdnum.us import itin, ssn

from speech.text.redaction.digits import Run, Token, View
from speech.text.redaction.kinds import Found, PersonalData

Window = Sequence[Token]
"""A part of a run."""


def windows(run: Run, least: int, most: int, accept: Callable[[int, int], bool]) -> Iterator[tuple[int, int]]:
    """Parts of a run with ``least`` to ``most`` digits that are accepted, from the left, the longest first."""
    start = 0
    while start < len(run):
        ends, total = [], 0
        for end in range(start + 1, len(run) + 1):
            total += len(run[end - 1].digits)
            if total > most:
                break
            if total >= least:
                ends.append(end)
        accepted = next((end for end in reversed(ends) if accept(start, end)), None)
        if accepted is not None:
            yield start, accepted
        start = accepted or start + 1


def _digits(window: Window) -> str:
    return "".join(token.digits for token in window)


# amounts and counts

CURRENCY_BEFORE = re.compile(r"(?:[$€£¥]|\b(?:usd|rmb|cny|eur|gbp))\s*$", re.IGNORECASE)
UNIT_AFTER = re.compile(
    r"\s*(?:(?:dollars?|bucks|cents?|euros?|pounds?|yuan|rmb|usd|eur|gbp|percent)\b"
    r"|元(?![旦宵])|块钱|美元|美金|欧元|英镑|日元|人民币|[%‰€£])",
    re.IGNORECASE,
)
MIN_ROUND_ZEROS = 6
MIN_COUNTED = 4


def _is_amount(folded: str, window: Window) -> bool:
    if CURRENCY_BEFORE.search(folded, max(0, window[0].start - 5), window[0].start):
        return True
    if UNIT_AFTER.match(folded, window[-1].end):
        return True
    return len(window) == 1 and not window[0].spoken and window[0].digits.endswith("0" * MIN_ROUND_ZEROS)


def _is_list(window: Window) -> bool:
    """Whether these are several numbers: somebody who counts, years, or scores and ages."""
    values = [int(token.digits) for token in window]
    if len(values) >= MIN_COUNTED and {b - a for a, b in pairwise(values)} in ({1}, {-1}):
        return True
    lengths = {len(token.digits) for token in window}
    in_pairs = lengths == {2} or (max(lengths) == 2 and not any(token.spoken for token in window))
    if in_pairs and not window[0].digits.startswith("0"):
        return True
    return all(len(token.digits) == 4 and 1900 <= int(token.digits) < 2100 for token in window)


# phone numbers

MIN_PHONE_DIGITS, MAX_PHONE_DIGITS = 7, 15
PLUS_BEFORE = re.compile(r"(?:\+|(?<![a-z])plus|加)\s?$", re.IGNORECASE)


def phones(folded: str, run: Run, regions: Sequence[str]) -> Iterator[Found]:
    """Valid numbers of the regions, with their area code, and of any region behind a plus."""

    def accept(start: int, end: int) -> bool:
        window = run[start:end]
        digits = _digits(window)
        if _is_international(folded, window):
            return True
        if _is_amount(folded, window) or _is_list(window):
            return False
        text = _spaced(window)
        return any(_may_have_length(digits, region) and _is_phone(text, region) for region in regions)

    for start, end in windows(run, MIN_PHONE_DIGITS, MAX_PHONE_DIGITS, accept):
        window = run[start:end]
        plus = _plus(folded, window) if _is_international(folded, window) else None
        yield Found(PersonalData.PHONE, plus.start() if plus else _with_bracket(folded, window), window[-1].end)


def _with_bracket(folded: str, window: Window) -> int:
    """Where a window starts: at the bracket of an area code that is closed within it."""
    first, end = window[0].start, window[-1].end
    opened = first > 0 and folded[first - 1] == "(" and ")" in folded[first:end]
    return first - opened


def _plus(folded: str, window: Window) -> re.Match[str] | None:
    return PLUS_BEFORE.search(folded, max(0, window[0].start - 6), window[0].start)


def _is_international(folded: str, window: Window) -> bool:
    return _plus(folded, window) is not None and _is_phone(f"+{_spaced(window)}", None)


def _spaced(window: Window) -> str:
    return " ".join(token.digits for token in window)


def _is_phone(text: str, region: str | None) -> bool:
    """Whether the whole text is a valid number, which in a region's own form has what the region asks for."""
    for match in PhoneNumberMatcher(text, region, leniency=Leniency.VALID, max_tries=1):
        return match.end - match.start == len(text) and (region is None or _has_trunk_zero(text, match.number))
    return False


def _has_trunk_zero(text: str, number: PhoneNumber) -> bool:
    """A number of a line at home without the zero before its area code could be any number."""
    metadata = PhoneMetadata.metadata_for_region(region_code_for_country_code(number.country_code or 0))
    needs_zero = metadata is not None and metadata.national_prefix == "0"
    return text.startswith("0") or not needs_zero or number_type(number) != PhoneNumberType.FIXED_LINE


def _may_have_length(digits: str, region: str) -> bool:
    """Spares most windows the library's closer look."""
    metadata = PhoneMetadata.metadata_for_region(region)
    if metadata is None or metadata.general_desc is None:
        return False
    lengths = metadata.general_desc.possible_length
    prefixes = ("", metadata.national_prefix or "", str(metadata.country_code), f"00{metadata.country_code}")
    return any(digits.startswith(prefix) and len(digits) - len(prefix) in lengths for prefix in prefixes)


# payment cards

MIN_CARD_DIGITS, MAX_CARD_DIGITS = 13, 19
ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|(?:6011|65\d\d|64[4-9]\d)\d{12,15}"  # Discover
    r"|(?:62|81)\d{14,17}"  # UnionPay
    r"|35(?:2[89]|[3-8]\d)\d{12,15}"  # JCB
    r"|(?:30[0-5]|36\d|3[89]\d)\d{11}"  # Diners Club
    r"|(?:50|5[6-8]|6[013479])\d{11,17}"  # Maestro and banks' own
)


def cards(folded: str, run: Run) -> Iterator[Found]:
    """Numbers of known issuers whose check digit is right."""

    def accept(start: int, end: int) -> bool:
        digits = _digits(run[start:end])
        return (
            ISSUERS.fullmatch(digits) is not None
            and luhn.is_valid(digits)
            and not _is_amount(folded, run[start:end])
            and not _is_list(run[start:end])
        )

    for start, end in windows(run, MIN_CARD_DIGITS, MAX_CARD_DIGITS, accept):
        yield Found(PersonalData.CARD, run[start].start, run[end - 1].end)


# ids

RESIDENT_ID = re.compile(r"[1-9]\d{5}(?:18|19|20)\d{9}[\dX]")
SPOKEN_X = re.compile(r"[\s,-]{0,2}(?:x(?![a-z])|ex(?![a-z])|叉|艾克斯|埃克斯)", re.IGNORECASE)
SSN_BEFORE = re.compile(
    r"(?:social\s+security|(?<![a-z])ssn|taxpayer|(?<![a-z])itin|社会?安全|社安)[^\d]{0,60}$", re.IGNORECASE
)
NINO = re.compile(
    r"(?<![A-Za-z])(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z]\s?[A-CEGHJ-NPR-TW-Z]"
    r"[\s-]?\d\d[\s-]?\d\d[\s-]?\d\d[\s-]?[A-D](?![A-Za-z])"
)
IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Z][\s-]?[A-Z][\s-]?\d\d(?=(?:[\s-]?[A-Z0-9]){11})", re.IGNORECASE)
IBAN_BODY = re.compile(r"(?:[\s-]?[A-Z0-9]){11,30}", re.IGNORECASE)
IBAN_END = re.compile(r"(?<=[A-Z0-9])(?![A-Z0-9])", re.IGNORECASE)


def _is_resident_id(number: str) -> bool:
    """By date of birth and check digit. The library's list of places lacks those that were abolished."""
    try:
        ric.get_birth_date(number)
    except ValidationError:
        return False
    return ric.calc_check_digit(number) == number[-1]


def resident_ids(folded: str, run: Run) -> Iterator[Found]:
    """Chinese resident ids: 18 digits, or 17 and an X."""

    def whole(start: int, end: int) -> tuple[str, int]:
        digits, last = _digits(run[start:end]), run[end - 1].end
        if len(digits) == 17 and (x := SPOKEN_X.match(folded, last)):
            return f"{digits}X", x.end()
        return digits, last

    def accept(start: int, end: int) -> bool:
        number, _ = whole(start, end)
        return RESIDENT_ID.fullmatch(number) is not None and _is_resident_id(number)

    for start, end in windows(run, 17, 18, accept):
        yield Found(PersonalData.ID, run[start].start, whole(start, end)[1])


def _is_whole(folded: str, run: Run, start: int, end: int) -> bool:
    """Whether a part of a run does not go on, but for another number behind a comma or a full stop."""
    before = folded[run[start - 1].end : run[start].start] if start else ","
    after = folded[run[end - 1].end : run[end].start] if end < len(run) else ","
    return all({",", "."} & set(gap) for gap in (before, after))


def us_ids(folded: str, run: Run) -> Iterator[Found]:
    """Social security and taxpayers' numbers: written as 3-2-4, or after words that announce them."""

    def accept(start: int, end: int) -> bool:
        window = run[start:end]
        digits = _digits(window)
        gaps = {folded[a.end : b.start] for a, b in pairwise(window)}
        written = [len(token.digits) for token in window] == [3, 2, 4] and gaps <= {" ", "-"}
        announced = SSN_BEFORE.search(folded, max(0, window[0].start - 90), window[0].start)
        if not written and not (announced and _is_whole(folded, run, start, end)):
            return False
        number = f"{digits[:3]}-{digits[3:5]}-{digits[5:]}"
        return bool(ssn.is_valid(number) or itin.is_valid(number))

    for start, end in windows(run, 9, 9, accept):
        yield Found(PersonalData.ID, run[start].start, run[end - 1].end)


def lettered_ids(seen: View) -> Iterator[Found]:
    """GB national insurance numbers in capitals, and IBANs."""
    for match in NINO.finditer(seen.text):
        yield Found(PersonalData.ID, *seen.place(*match.span()))
    for match in IBAN_START.finditer(seen.text):
        body = IBAN_BODY.match(seen.text, match.end())
        if body is None:
            continue
        for end in range(body.end(), match.end() + 10, -1):
            if IBAN_END.match(seen.text, end) and iban.is_valid(seen.text[match.start() : end]):
                yield Found(PersonalData.ID, *seen.place(match.start(), end))
                break
