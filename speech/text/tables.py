"""Tables in text, for spreadsheets."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

# tabs and line breaks too: spreadsheets skip them in front of a formula
FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")


def write_table(rows: Iterable[Iterable[object]], *, delimiter: str = ",", line_end: str = "\r\n") -> str:
    """CSV (RFC 4180), or the same with another delimiter. What a spreadsheet would take for a formula is inert."""
    table = io.StringIO()
    writer = csv.writer(table, delimiter=delimiter, lineterminator=line_end)
    writer.writerows([_inert(field) if isinstance(field, str) else field for field in row] for row in rows)
    return table.getvalue()


def _inert(field: str) -> str:
    """An apostrophe before a formula, and before what looks like one that was treated so."""
    return f"'{field}" if FORMULA.match(field) else field
