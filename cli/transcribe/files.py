"""Files of the user's: written whole, and read for what is said about a recording."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from db.recordings import MAX_SIDECAR_BYTES, SIDECAR, parse_sidecar


def write_whole(file: Path, content: bytes) -> None:
    """The file is there whole or not at all, whoever else writes it. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # a name of its own, which is not there yet: nobody else's half of the file, and no link
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".longhand-", suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as output:
            output.write(content)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def sidecar_of(recording: Path) -> Path | None:
    """The file of options beside a recording, if there is one. A link is none: it may lead anywhere."""
    sidecar = recording.with_suffix(SIDECAR)
    return sidecar if sidecar.is_file() and not sidecar.is_symlink() else None


def read_sidecar(sidecar: Path) -> dict[str, Any]:
    """Options, yet to be validated. Raises BadSidecar or OSError."""
    with sidecar.open("rb") as file:
        return parse_sidecar(file.read(MAX_SIDECAR_BYTES + 1)) or {}
