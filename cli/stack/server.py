"""What the servers have in common: data, a port, a password."""

from __future__ import annotations

import secrets
from pathlib import Path

from cli.stack.process import Process, free_port
from db.private_files import write_private


def kept_password(file: Path) -> str:
    """A random password, generated on first use and kept for the next run."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_private(file, secrets.token_urlsafe(24))
    return file.read_text()


class Server(Process):
    """A server with a folder of data, a port on the loopback interface and a password of its own."""

    def __init__(self, folder: Path, port: int = 0, log: Path | None = None) -> None:
        self.folder = folder.absolute()
        super().__init__(log or self.folder.with_suffix(".log"))
        self.port = port or free_port()

    @property
    def password(self) -> str:
        return kept_password(self.folder.parent / f"{self.folder.name}.password")
