"""Zip files that are sent while they are made."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

EARLIEST = 1980
"""The first year that a zip file knows."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of an archive, whose content is made when it is its turn."""

    name: str
    at: datetime
    content: Callable[[], bytes | None]
    """None if it is gone by then; it is left out."""


class _Sink:
    """What is written, until it is taken. It cannot be sought, so that nothing is written twice."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def take(self) -> bytes:
        taken, self._written = bytes(self._written), bytearray()
        return taken


def zipped(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The archive in parts, each of which holds an entry."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in entries:
            at = entry.at.timetuple()[:6]
            info = zipfile.ZipInfo(entry.name, max(at, (EARLIEST, 1, 1, 0, 0, 0)))
            info.compress_type = zipfile.ZIP_DEFLATED
            content = entry.content()
            if content is not None:
                archive.writestr(info, content)
                yield sink.take()
    yield sink.take()
