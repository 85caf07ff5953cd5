"""E-mail addresses, as they are written and as they are said."""

from __future__ import annotations

import re
from collections.abc import Iterator

from speech.text.redaction.digits import View
from speech.text.redaction.kinds import Found, PersonalData

DOMAINS = "com|net|org|edu|gov|mil|int|info|biz|name|app|dev|cloud|online|site|tech|xyz|top|mail"
"""Top-level domains that are believed when they are said; any other is a country's."""

SPOKEN_DOT = r"\s*(?:(?<![A-Za-z])dot(?![A-Za-z])|点)\s*"
DOT = rf"(?:{SPOKEN_DOT}|\.)"
TORN_DOT = rf"\s?\.\s?(?=(?:{DOMAINS})(?![A-Za-z0-9]))"
LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
WRITTEN_AT = re.compile(rf"\s?@\s?(?:{LABEL}(?:{DOT}|{TORN_DOT}))+[A-Za-z]{{2,24}}(?![A-Za-z0-9])", re.IGNORECASE)
SPOKEN_AT = re.compile(
    r"\s*(?:(?<![A-Za-z])at(?:\s+sign)?(?![A-Za-z])|艾特|爱特|圈\s?a(?![A-Za-z])|@)\s*"
    rf"(?:{LABEL}{DOT})+(?:{DOMAINS}|[A-Za-z]{{2}})(?![A-Za-z0-9])",
    re.IGNORECASE,
)

SIGN = (
    r"[._%+-]|\s*(?:(?<![A-Za-z])(?:dot|underscore|dash|hyphen|minus|plus)(?![A-Za-z])"
    r"|点|下划线|减号|[横中]?杠)\s*"
)
LOCAL = re.compile(
    rf"(?:(?<![A-Za-z0-9])[A-Za-z0-9]\s)*[A-Za-z0-9]+(?:(?:{SIGN})+[A-Za-z0-9]+)*(?:\s\d+)?$", re.IGNORECASE
)
MAX_LOCAL = 80
"""Characters before the sign in which the name is looked for."""

NO_NAMES = (
    "a an and are available be but find from go her here him in is it look looked looking looks me more now of on "
    "online or out page shop site sold starting store stream the them there these this us visit watch website "
    "works you "
)
"""Words before an "at example dot com" that is a place and nobody's address."""


def emails(seen: View) -> Iterator[Found]:
    """Addresses in ASCII, whatever stands directly beside them."""
    for pattern, spoken in ((WRITTEN_AT, False), (SPOKEN_AT, True)):
        for at in pattern.finditer(seen.text):
            local = LOCAL.search(seen.text, max(0, at.start() - MAX_LOCAL), at.start())
            if local is not None and not (spoken and local[0].lower() in NO_NAMES.split()):
                yield Found(PersonalData.EMAIL, *seen.place(local.start(), at.end()))
