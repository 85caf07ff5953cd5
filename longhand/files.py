"""Recordings, read as they are sent."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread
import httpx

BLOCK_BYTES = 256 * 1024

OnProgress = Callable[[int, int], object]
"""Called with the bytes that were sent, and with all that there are."""


class Source:
    """A recording: a file's path, or its bytes."""

    def __init__(self, recording: str | os.PathLike[str] | bytes, filename: str | None = None) -> None:
        self._content = recording if isinstance(recording, bytes) else None
        self._path = None if isinstance(recording, bytes) else Path(recording)
        named = self._path.name if self._path is not None else "recording"
        # names on a disk need not be text
        self.filename = (filename or named).encode(errors="replace").decode()

    def open(self) -> BinaryIO:
        """Raises OSError."""
        return io.BytesIO(self._content or b"") if self._path is None else self._path.open("rb")

    def size(self) -> int:
        return len(self._content or b"") if self._path is None else self._path.stat().st_size


class CountedFile:
    """What of an open file httpx reads for a form, with a count of it."""

    def __init__(self, file: BinaryIO, on_progress: OnProgress | None) -> None:
        self._file, self._on_progress = file, on_progress
        self._size = file.seek(0, io.SEEK_END)
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        if self._on_progress is not None:
            self._on_progress(self._file.tell(), self._size)
        return block

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


class Piece(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body of ``size`` bytes from ``start`` on, for both kinds of clients."""

    def __init__(self, source: Source, start: int, size: int, on_sent: Callable[[int], object]) -> None:
        self._source, self._start, self._size, self._on_sent = source, start, size, on_sent

    def __iter__(self) -> Iterator[bytes]:
        with self._source.open() as file:
            file.seek(self._start)
            left = self._size
            while left and (block := file.read(min(left, BLOCK_BYTES))):
                yield block
                left -= len(block)
                self._on_sent(self._start + self._size - left)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        blocks = iter(self)
        while block := await anyio.to_thread.run_sync(next, blocks, b""):
            yield block
