"""Random access to one S3 object."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from db.settings import MIB

BLOCK_BYTES = 4 * MIB
MAX_CACHED_BLOCKS = 4


class RangeReader(io.RawIOBase):
    """Seekable reader over ranges of an object. The most recent blocks are cached."""

    def __init__(self, read_range: Callable[[int, int], bytes], size: int) -> None:
        """``read_range`` returns the bytes from the first offset to the second (exclusive)."""
        self._read_range, self._size = read_range, size
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self._size:
            return 0
        number, offset = divmod(self._position, BLOCK_BYTES)
        data = self._block(number)[offset : offset + len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        start = number * BLOCK_BYTES
        data = self._read_range(start, min(start + BLOCK_BYTES, self._size))
        self._blocks[number] = data
        if len(self._blocks) > MAX_CACHED_BLOCKS:
            self._blocks.popitem(last=False)
        return data
