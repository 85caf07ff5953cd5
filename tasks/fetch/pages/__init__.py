"""Finding the recording of a web page, by yt-dlp in a process without network, files or secrets."""

from __future__ import annotations

import importlib.util


def installed() -> bool:
    """Whether the extra ``pages`` is."""
    return importlib.util.find_spec("yt_dlp") is not None
