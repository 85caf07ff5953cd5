"""Reading a file of the configured folder. Neither ``..`` nor a link leads out of it, also not in a race."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from db.settings import MIB
from tasks.errors import Broken, Permanent
from tasks.fetch.network import not_allowed


def read_file(folder: Path, path: str) -> Iterator[bytes]:
    """The file's content in blocks. Raises Permanent."""
    try:
        root = folder.resolve(strict=True)
        found = (root / path).resolve(strict=True)
        if not found.is_relative_to(root):
            raise not_allowed("The path leads out of the folder that this server reads from.")
        descriptor = _open_below(root, found.relative_to(root).parts)
    except FileNotFoundError:
        raise Permanent("url_not_found", "The folder that this server reads from has no such file.") from None
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        raise Broken("url_refused", "The file cannot be read by this server.") from None
    with os.fdopen(descriptor, "rb") as file:
        while block := file.read(MIB):
            yield block


def _open_below(root: Path, parts: tuple[str, ...]) -> int:
    """Open a path without links, step by step: what becomes a link meanwhile is not followed."""
    current = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=current)
            os.close(current)
            current = inner
        # not to wait for the other end of a pipe
        file = os.open(parts[-1] if parts else ".", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=current)
    finally:
        os.close(current)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise Permanent("url_refused", "The path leads to something that is no file.")
    return file
