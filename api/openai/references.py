"""``known_speaker_references[]``: samples of people who may speak in the recording, as data URLs."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence

from api.problems import Problem

MOST = 4
MAX_BYTES = 4 * 1024 * 1024
"""Of a data URL: ten seconds of uncompressed stereo."""


def samples(names: Sequence[str], urls: Sequence[str]) -> dict[str, bytes]:
    """Media files by the names of who speaks in them, none where no URL is given. Raises Problem."""
    if not urls:
        return {}
    if len(names) != len(urls) or len(set(names)) != len(names):
        raise unusable("each wants a name of its own in known_speaker_names[]")
    return {name: _decode(name, url) for name, url in zip(names, urls, strict=True)}


def unusable(why: str) -> Problem:
    detail = f"known_speaker_references[] cannot be used: {why}."
    return Problem(422, "invalid_request", "Invalid request", detail, param="known_speaker_references")


def _decode(name: str, url: str) -> bytes:
    head, _, data = url.partition(",")
    if not (head.startswith("data:") and head.endswith(";base64")):
        raise unusable(f"that of {name!r} is no data URL such as data:audio/wav;base64,UklGR…")
    try:
        sample = b64decode(data, validate=True)
    except ValueError:
        raise unusable(f"that of {name!r} is not base64") from None
    if not sample:
        raise unusable(f"that of {name!r} is empty")
    return sample
