"""Files that only their owner reads: recordings, transcripts, passwords, logs."""

from __future__ import annotations

import os
from pathlib import Path

UMASK = 0o077


def keep_files_private() -> None:
    """For the entry of a process: what it and its children create from now on is for their user alone."""
    os.umask(UMASK)


def make_private_folder(folder: Path) -> None:
    """A folder of ours; one from before is closed to others too."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid == os.geteuid() and found.st_mode & UMASK:
        folder.chmod(0o700)


def write_private(file: Path, text: str) -> None:
    """Replace a file's content; one from before is closed to others first."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as output:
        os.fchmod(output.fileno(), 0o600)
        output.write(text)
