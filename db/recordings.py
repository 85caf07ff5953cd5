"""Which names are those of recordings, and the options that may lie beside one: `talk.json` for `talk.mp3`."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

EXTENSIONS = frozenset(
    [
        *(
            "3gp",
            "aac",
            "ac3",
            "aif",
            "aiff",
            "amr",
            "ape",
            "avi",
            "caf",
            "flac",
            "flv",
            "m4a",
            "m4b",
            "m4v",
            "mka",
        ),
        *("mkv", "mov", "mp2", "mp3", "mp4", "mpeg", "mpg", "mts", "oga", "ogg", "opus", "ts", "wav", "webm"),
        *("wma", "wmv"),
    ]
)
"""Of files in folders and buckets. What is named itself is sent whatever it is called: the server looks inside."""

SIDECAR = ".json"
MAX_SIDECAR_BYTES = 256 * 1024
"""No request could hold more options."""


class BadSidecar(ValueError):
    """The message says what is wrong with it."""


def is_recording(path: PurePath) -> bool:
    """By its name, whatever it holds. Hidden ones are none."""
    return path.suffix[1:].lower() in EXTENSIONS and not path.name.startswith(".")


def parse_sidecar(content: bytes) -> dict[str, Any] | None:
    """The options, yet to be validated; None for a transcript, which has the same name. Raises BadSidecar.

    ``content`` need be no more than the first byte beyond the limit.
    """
    if len(content) > MAX_SIDECAR_BYTES:
        return None
    try:
        given = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadSidecar(f"it is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise BadSidecar("it is no JSON object of options")
    return None if "segments" in given else given
