"""One recording that is to be transcribed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

SCHEMES = ("http://", "https://", "s3://")


@dataclass(frozen=True, slots=True)
class Row:
    """Of a batch, which a recording was named in."""

    batch: Path
    line: int
    file: str
    """As it stands there."""
    options: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.batch}, line {self.line}"


@dataclass(frozen=True, slots=True)
class Source:
    """A recording, and where its transcripts go."""

    name: str
    """An absolute path, or an address."""
    folder: Path
    """That its transcripts are written to."""
    root: Path
    """Where what is done is kept: the folder given by --out, or the one that was searched."""
    row: Row | None = field(default=None, compare=False)

    @property
    def is_url(self) -> bool:
        return self.name.startswith(SCHEMES)

    @property
    def path(self) -> Path:
        return Path(self.name)

    @property
    def shown(self) -> str:
        """The name, without what of an address may be a credential: user, password, query and fragment."""
        if not self.name.startswith(("http://", "https://")):
            return self.name
        return re.sub(r"(?<=://)[^/]*@", "", re.split("[?#]", self.name)[0])

    @property
    def filename(self) -> str:
        """Fit to be a file's name here."""
        if not self.is_url:
            return self.path.name
        address = urlsplit(self.name)
        last = unquote(address.path).rstrip("/").rpartition("/")[2] or address.hostname or "recording"
        return re.sub(r"[^\w.-]+", "_", last)[:100].lstrip(".") or "recording"
