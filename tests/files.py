"""Looking at folders in which servers are at work."""

from __future__ import annotations

import os
from pathlib import Path


def files_under(folder: Path) -> list[Path]:
    """All files below, in whatever depth; what is deleted meanwhile is left out (`rglob` would raise)."""
    return [Path(place, name) for place, _, names in os.walk(folder) for name in names]
