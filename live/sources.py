"""Sound as it comes from a client, in whatever form, on its way to a session."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Awaitable, Callable
from typing import BinaryIO, Protocol, cast

from live import metrics
from live.audio import Pcm, PcmReader
from speech.audio.isolated.client import DecoderLost, IsolatedDecoder
from speech.audio.media import MediaError

BLOCK_SECONDS = 0.02
MAX_WAITING_BYTES, MAX_WAITING_BLOCKS = 64 * 1024, 64
"""That may wait for the decoder before more is taken, and that may wait for the session."""

FORMATS = {"opus": "ogg", "webm": "matroska"}
"""FFmpeg's name of the container, by what the client calls it."""

Feed = Callable[[Pcm], Awaitable[None]]


class SourceError(Exception):
    """What the client sends is no sound. ``code`` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Source(Protocol):
    async def push(self, data: bytes) -> None:
        """Another message. Waits where the session does. Raises SourceError, and what the session raises."""
        ...

    async def finish(self) -> None:
        """There are no more messages: the rest goes to the session. Raises the same."""
        ...

    async def close(self) -> None:
        """Give up what it holds. Does not raise."""
        ...


class PcmSource:
    def __init__(self, feed: Feed, sample_rate: int, channels: int) -> None:
        self._feed, self._reader = feed, PcmReader(sample_rate, channels)

    async def push(self, data: bytes) -> None:
        metrics.ingress_bytes.inc(len(data))
        await self._feed(self._reader.push(data))

    async def finish(self) -> None:
        await self._feed(self._reader.flush())

    async def close(self) -> None:
        pass


class _Arriving:
    """The file that a decoder reads: what has come, as far as it has."""

    def __init__(self) -> None:
        self._messages: queue.Queue[bytes] = queue.Queue()
        self._rest = b""
        self._ended = False
        self._put = self._taken = 0

    def put(self, data: bytes) -> None:
        """Nothing is the end."""
        self._put += len(data)
        self._messages.put(data)

    @property
    def waiting(self) -> int:
        """Bytes."""
        return self._put - self._taken

    def seek(self, offset: int, whence: int = 0) -> int:
        return offset

    def read(self, size: int) -> bytes:
        if not self._rest and not self._ended:
            self._rest = self._messages.get()
            self._taken += len(self._rest)
            self._ended = not self._rest
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


class ContainerSource:
    """Opus in a container, decoded in a sandbox. A thread waits for the decoder."""

    def __init__(self, feed: Feed, decoder: IsolatedDecoder, codec: str, max_duration: float) -> None:
        self._feed, self._decoder = feed, decoder
        self._format, self._max_duration = FORMATS[codec], max_duration
        self._file = _Arriving()
        self._loop = asyncio.get_running_loop()
        self._blocks: asyncio.Queue[Pcm | SourceError | None] = asyncio.Queue()
        self._room = threading.Semaphore(MAX_WAITING_BLOCKS)
        self._closed = False
        self._fed = asyncio.create_task(self._run())
        threading.Thread(target=self._decode, name="live-decoder", daemon=True).start()

    async def push(self, data: bytes) -> None:
        metrics.ingress_bytes.inc(len(data))
        self._raise_failure()
        if data and not self._fed.done():
            self._file.put(data)
        while self._file.waiting > MAX_WAITING_BYTES and not self._fed.done():
            await asyncio.sleep(BLOCK_SECONDS)
        self._raise_failure()

    async def finish(self) -> None:
        self._file.put(b"")
        await self._fed

    async def close(self) -> None:
        self._closed = True
        self._file.put(b"")
        self._room.release()
        self._fed.cancel()
        await asyncio.gather(self._fed, return_exceptions=True)

    def _raise_failure(self) -> None:
        if self._fed.done() and (error := self._fed.exception()) is not None:
            raise error

    async def _run(self) -> None:
        while (block := await self._blocks.get()) is not None:
            if isinstance(block, SourceError):
                raise block
            self._room.release()
            await self._feed(block)

    def _decode(self) -> None:
        """In the thread."""
        end: SourceError | None = None
        try:
            with self._decoder.open_live(
                cast(BinaryIO, self._file), self._format, max_duration=self._max_duration
            ) as media:
                for block in media.pcm(seconds=BLOCK_SECONDS):
                    self._room.acquire()
                    if self._closed:
                        return
                    self._put(block)
        except MediaError as error:
            end = SourceError(error.code, str(error))
        except (DecoderLost, OSError) as error:
            end = SourceError("decoder_lost", f"The decoder was lost ({error}); connect again to go on.")
        finally:
            self._put(end)

    def _put(self, block: Pcm | SourceError | None) -> None:
        with contextlib.suppress(RuntimeError):  # where the loop is closed, nobody listens
            self._loop.call_soon_threadsafe(self._blocks.put_nowait, block)
