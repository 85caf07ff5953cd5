"""The worker's side: opening a recording in a decoder of its own."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from speech.audio.isolated import messages, sandbox
from speech.audio.isolated.messages import Kind
from speech.audio.media import MediaError, MediaInfo, to_float, unreadable
from speech.engines import SAMPLE_RATE, Samples

logger = logging.getLogger(__name__)


class DecoderLost(Exception):
    """The decoding server died, of no fault of the recording: try again."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one recording may cost."""

    memory_bytes: int = 512 * 1024 * 1024
    """Beyond what a decoder has before it opens a file. Indexes of long videos take 150 MB."""
    cpu_seconds: int = 600
    """A second decodes minutes of sound in any codec, and reads past half a gigabyte of video."""
    wall_seconds: float = 1800.0
    """Spent on the decoder and on reading what it asks for, in all; what is done with the sound does not count."""
    stall_seconds: float = 60.0
    """Without a sign of life from the decoder."""


class IsolatedDecoder:
    """Opens recordings in processes of their own. Thread-safe; the server starts with the first recording."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    @contextmanager
    def open(self, file: BinaryIO, *, max_duration: float) -> Iterator[IsolatedMedia]:
        """As :func:`speech.audio.media.open_media`.

        Raises MediaError, also for a limit or a crash, and DecoderLost. Errors of the file itself pass through.
        """
        with self._open(file, self._limits, size=file.seek(0, os.SEEK_END), max_duration=max_duration) as media:
            yield media

    @contextmanager
    def open_live(self, file: BinaryIO, live_format: str, *, max_duration: float) -> Iterator[IsolatedMedia]:
        """The same for a recording that comes while it is read, so that reads may wait.

        It is only ever read on from where it was. ``live_format`` is FFmpeg's name of its container. How long it
        takes is not limited.
        """
        limits = replace(self._limits, wall_seconds=math.inf)
        with self._open(file, limits, size=0, max_duration=max_duration, live_format=live_format) as media:
            yield media

    @contextmanager
    def _open(self, file: BinaryIO, limits: Limits, **request: int | float | str) -> Iterator[IsolatedMedia]:
        request |= {"memory_bytes": limits.memory_bytes, "cpu_seconds": limits.cpu_seconds}
        ours, theirs = messages.channel_pair()
        with ours:
            ours.settimeout(limits.stall_seconds)
            with theirs:
                self._send(json.dumps(request).encode(), theirs.fileno())
            yield IsolatedMedia(ours, file, limits)

    def start(self) -> None:
        """Start the server, so that the first recording need not wait for it."""
        with self._lock:
            self._ensure_running()

    def close(self) -> None:
        """End the server and with it every decoder."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        self._server = self._control = None

    def _send(self, request: bytes, descriptor: int) -> None:
        with self._lock:
            try:
                socket.send_fds(self._ensure_running(), [request], [descriptor])
            except OSError:
                # it died since it was last looked at
                self._stop()
                try:
                    socket.send_fds(self._ensure_running(), [request], [descriptor])
                except OSError as error:
                    raise DecoderLost("the decoding server takes no requests") from error

    def _ensure_running(self) -> socket.socket:
        if self._server is not None and self._server.poll() is None and self._control is not None:
            return self._control
        self._stop()
        self._control, theirs = messages.channel_pair()
        with theirs:
            self._server = subprocess.Popen(  # noqa: S603  (our own module)
                [sys.executable, "-m", "speech.audio.isolated.server", str(theirs.fileno())],
                env=sandbox.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                cwd="/",
            )
        return self._control


class IsolatedMedia:
    """An open recording, as :class:`speech.audio.media.Media`."""

    def __init__(self, channel: socket.socket, file: BinaryIO, limits: Limits) -> None:
        self._channel, self._file, self._limits = channel, file, limits
        self.decoded_seconds = 0.0
        self._spent_seconds = 0.0
        kind, payload = self._receive()
        if kind != Kind.INFO:
            raise DecoderLost(f"expected INFO, not {kind.name}")
        self.info = MediaInfo(**json.loads(bytes(payload)))

    def blocks(self, *, seconds: float) -> Iterator[Samples]:
        """Blocks of about this length, all channels mixed. Raises MediaError."""
        for block in self._pcm(seconds, 1, split=False):
            yield to_float(block)[0]

    def channel_blocks(self, *, seconds: float) -> Iterator[NDArray[np.float32]]:
        """The same with the channels apart, (channels, samples). Raises MediaError for too many."""
        for block in self._pcm(seconds, self.info.channels, split=True):
            yield to_float(block)

    def pcm(self, *, seconds: float) -> Iterator[NDArray[np.int16]]:
        """The same as 16-bit samples, shape (samples,), all channels mixed. Raises MediaError."""
        for block in self._pcm(seconds, 1, split=False):
            yield block[:, 0]

    def _pcm(self, seconds: float, channels: int, *, split: bool) -> Iterator[NDArray[np.int16]]:
        messages.send_json(self._channel, Kind.START, split=split)
        pending: list[NDArray[np.int16]] = []
        held = 0
        while True:
            kind, payload = self._receive()
            if kind == Kind.END:
                break
            pending.append(np.frombuffer(payload, np.int16).reshape(-1, channels))
            held += len(pending[-1])
            if held >= seconds * SAMPLE_RATE:
                yield np.concatenate(pending)
                pending, held = [], 0
        if pending:
            yield np.concatenate(pending)
        self.decoded_seconds = float(json.loads(bytes(payload))["decoded_seconds"])

    def _receive(self) -> tuple[Kind, memoryview]:
        """The next message that is no request to read: those are answered here. Raises MediaError, DecoderLost."""
        begun = time.monotonic()
        try:
            while self._spent_seconds + time.monotonic() - begun < self._limits.wall_seconds:
                kind, payload = self._next()
                match kind:
                    case Kind.READ:
                        self._answer(*messages.READ_FORMAT.unpack(payload))
                    case Kind.ERROR:
                        raise self._error(**json.loads(bytes(payload)))
                    case Kind.DIED:
                        raise self._died(*messages.STATUS_FORMAT.unpack(payload))
                    case _:
                        return kind, payload
            raise self._over_time()
        finally:
            self._spent_seconds += time.monotonic() - begun

    def _next(self) -> tuple[Kind, memoryview]:
        try:
            return messages.receive(self._channel)
        except TimeoutError:
            raise self._over_time() from None
        except (EOFError, ConnectionError) as error:
            raise DecoderLost("the decoding server died") from error

    def _answer(self, offset: int, size: int) -> None:
        self._file.seek(offset)
        data = self._file.read(min(size, messages.MAX_PAYLOAD_BYTES))
        try:
            messages.send(self._channel, Kind.DATA, data)
        except ConnectionError:
            return  # the decoder is gone: the next message tells why

    def _error(self, code: str, message: str) -> MediaError:
        match code:
            case messages.MEMORY_LIMIT:
                return self._over_memory()
            case messages.BUG:
                logger.error("a decoder failed: %s", message)
                return unreadable()
            case _:
                return MediaError(code, message)

    def _died(self, status: int) -> MediaError:
        logger.warning("a decoder died, status %#x", status)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
            return self._over_time()
        return unreadable()

    def _over_time(self) -> MediaError:
        return MediaError(
            "audio_time_limit",
            f"Decoding the file takes longer than the {self._limits.cpu_seconds} s that this server allows; it "
            "may be damaged. Convert it to WAV, FLAC or MP3 and send the result.",
        )

    def _over_memory(self) -> MediaError:
        return MediaError(
            messages.MEMORY_LIMIT,
            f"Decoding the file takes more than the {self._limits.memory_bytes // 2**20} MiB of memory that this "
            "server allows; it may be damaged. Convert it to WAV, FLAC or MP3 and send the result.",
        )
