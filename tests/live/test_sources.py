"""What waits for a decoder."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

import numpy as np
import pytest

from live.audio import Pcm
from live.sources import MAX_WAITING_BYTES, ContainerSource
from speech.audio.isolated.client import IsolatedDecoder


class SlowDecoder:
    """Reads nothing until it is told to, and then the rest."""

    def __init__(self) -> None:
        self.told = threading.Event()
        self.read = 0

    @contextmanager
    def open_live(self, file: BinaryIO, live_format: str, *, max_duration: float) -> Iterator[SlowDecoder]:
        self._file = file
        yield self

    def pcm(self, *, seconds: float) -> Iterator[Pcm]:
        self.told.wait()
        while data := self._file.read(1000):
            self.read += len(data)
        yield np.zeros(0, np.int16)


def test_a_client_that_is_faster_than_the_decoder_waits() -> None:
    decoder = SlowDecoder()

    async def feed(pcm: Pcm) -> None:
        pass

    async def send() -> None:
        source = ContainerSource(feed, cast(IsolatedDecoder, decoder), "webm", 60.0)
        await source.push(bytes(MAX_WAITING_BYTES))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await source.push(bytes(MAX_WAITING_BYTES))
        decoder.told.set()
        await source.push(b"the rest")
        await source.finish()
        await source.push(b"nobody hears this")
        await source.close()

    asyncio.run(send())
    assert decoder.read == 2 * MAX_WAITING_BYTES + len(b"the rest")
