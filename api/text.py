"""Types for text from callers: names and words, cleaned during validation."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from speech.text.cleaning import single_line

CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")

NO_CONTROLS = r"^[^\x00-\x1f\x7f]+$"
"""PostgreSQL takes no NUL in a text."""


def _clean(text: str) -> str:
    """One line; line breaks and tabs become spaces. Raises ValueError for other control characters."""
    if CONTROLS.search(text):
        raise ValueError("control characters are not allowed")
    return single_line(text)


MAX_TEXT = 5000

Text = Annotated[str, AfterValidator(_clean), StringConstraints(min_length=1, max_length=MAX_TEXT)]
Name = Annotated[str, AfterValidator(_clean), StringConstraints(min_length=1, max_length=200)]
