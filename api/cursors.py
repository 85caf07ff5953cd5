"""Cursors of lists: where a page ended, as (time, id)."""

from __future__ import annotations

import base64
import binascii
import uuid
from datetime import datetime

from api.problems import Problem


def encode_cursor(at: datetime, row_id: uuid.UUID) -> str:
    return base64.urlsafe_b64encode(f"{at.isoformat()}|{row_id}".encode()).decode()


def decode_cursor(cursor: str) -> tuple[datetime, uuid.UUID]:
    """Raises Problem."""
    try:
        at, row_id = base64.urlsafe_b64decode(cursor.encode()).decode().split("|")
        return datetime.fromisoformat(at), uuid.UUID(row_id)
    except (ValueError, binascii.Error) as error:
        raise invalid_cursor() from error


def invalid_cursor() -> Problem:
    detail = "Pass `next_cursor` of the page before, unchanged."
    return Problem(400, "invalid_cursor", "Invalid cursor", detail)
