"""A transcript as text, in a format."""

from __future__ import annotations

from typing import Any

from speech.text.formats import Format, render
from speech.text.transcript import Transcript


def rendered(transcript: Transcript, format_: Format, **options: Any) -> str:
    return render(transcript, format_, **options).decode()
