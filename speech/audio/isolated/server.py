"""``python -m speech.audio.isolated.server FD``: forks one sandboxed decoder for each recording.

It is started once, with an environment that holds no secrets, and has FFmpeg loaded: a decoder then begins within
milliseconds. Requests come with the descriptor of the channel that the decoder talks over. When the worker closes
its end of a channel, the decoder is killed; when the worker is gone, the server ends with all its decoders.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import select
import signal
import socket
import sys
import wave
from dataclasses import asdict, dataclass
from typing import BinaryIO, NoReturn, cast

import av
import av.logging

from speech.audio.isolated import messages, sandbox
from speech.audio.isolated.messages import Kind
from speech.audio.media import Media, MediaError, open_media

MAX_REQUEST_BYTES = 4096
PCM_SECONDS, LIVE_PCM_SECONDS = 1.0, 0.02
"""Audio gathered before it is sent."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a decoder may use: seconds of audio, bytes beyond the idle server's, seconds of a processor."""

    size: int
    max_duration: float
    memory_bytes: int
    cpu_seconds: int
    live_format: str | None = None
    """Of a recording that comes while it is decoded, and has no size."""


class ChannelStream:
    """A recording that comes while it is read: every read is asked for over the channel, and may wait."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._position = 0

    def read(self, size: int) -> bytes:
        wanted = min(size, messages.MAX_PAYLOAD_BYTES)
        messages.send(self._channel, Kind.READ, messages.READ_FORMAT.pack(self._position, wanted))
        kind, data = messages.receive(self._channel)
        if kind != Kind.DATA:
            raise ValueError(f"expected DATA, not {kind.name}")
        self._position += len(data)
        return bytes(data)


class ChannelFile(ChannelStream):
    """A recording that is there, to be read anywhere."""

    def __init__(self, channel: socket.socket, size: int) -> None:
        super().__init__(channel)
        self._size = size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        wanted = min(size, self._size - self._position)
        return super().read(wanted) if wanted > 0 else b""


def decode(channel: socket.socket, request: Request) -> None:
    """Decode one recording over a channel. What is wrong with it becomes an ERROR message."""
    try:
        is_live = request.live_format is not None
        file = cast(BinaryIO, ChannelStream(channel) if is_live else ChannelFile(channel, request.size))
        with open_media(file, max_duration=request.max_duration, live_format=request.live_format) as media:
            messages.send_json(channel, Kind.INFO, **asdict(media.info))
            _, start = messages.receive(channel)
            seconds = LIVE_PCM_SECONDS if is_live else PCM_SECONDS
            _send_pcm(channel, media, seconds, split=json.loads(bytes(start))["split"])
            messages.send_json(channel, Kind.END, decoded_seconds=media.decoded_seconds)
    except MediaError as error:
        messages.send_json(channel, Kind.ERROR, code=error.code, message=str(error))
    except MemoryError:
        messages.send_json(channel, Kind.ERROR, code=messages.MEMORY_LIMIT, message="")
    except (OSError, EOFError):
        raise  # of the channel
    except Exception as error:  # noqa: BLE001  (a strange file may lead PyAV anywhere)
        messages.send_json(channel, Kind.ERROR, code=messages.BUG, message=f"{type(error).__name__}: {error}")


def _send_pcm(channel: socket.socket, media: Media, seconds: float, *, split: bool) -> None:
    for block in media.pcm(seconds=seconds, split=split):
        rows = messages.MAX_PAYLOAD_BYTES // (block.itemsize * block.shape[1])
        for first in range(0, len(block), rows):
            messages.send(channel, Kind.PCM, block[first : first + rows].tobytes())


class Server:
    """Forks decoders, reports how they ended, and kills those that nobody listens to any more."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._channels: dict[int, socket.socket] = {}
        """The decoder's end of each channel, by the decoder's process."""
        self._wakeup, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        os.set_blocking(self._wakeup, False)
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._poll.register(self._wakeup, select.POLLIN)

    def run(self) -> None:
        """Until the worker is gone."""
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._control.fileno():
                    if not self._accept():
                        return
                elif descriptor == self._wakeup:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wakeup, 4096)
                    self._reap()
                else:
                    self._kill(descriptor)

    def close(self) -> None:
        for pid in self._channels:
            os.kill(pid, signal.SIGKILL)

    def _accept(self) -> bool:
        data, descriptors, *_ = socket.recv_fds(self._control, MAX_REQUEST_BYTES, 1)
        if not data:
            return False
        channel = socket.socket(fileno=descriptors[0])
        pid = os.fork()
        if pid == 0:
            self._become_decoder(channel, Request(**json.loads(data)))
        self._channels[pid] = channel
        # no event is asked for: poll tells of a closed end in any case
        self._poll.register(channel, 0)
        return True

    def _become_decoder(self, channel: socket.socket, request: Request) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for other in (self._control, *self._channels.values()):
                other.close()
            os.close(self._wakeup)
            os.close(self._waker)
            os.dup2(0, 2)  # the log is the worker's
            sandbox.enter(memory_bytes=request.memory_bytes, cpu_seconds=request.cpu_seconds)
            decode(channel, request)
            status = 0
        except (BrokenPipeError, ConnectionResetError, EOFError):
            status = 0  # the worker wants no more
        finally:
            os._exit(status)

    def _reap(self) -> None:
        for pid in list(self._channels):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                channel = self._channels.pop(pid)
                with contextlib.suppress(KeyError):  # where it was killed
                    self._poll.unregister(channel)
                with contextlib.suppress(OSError):
                    channel.setblocking(False)
                    messages.send(channel, Kind.DIED, messages.STATUS_FORMAT.pack(status))
                channel.close()

    def _kill(self, descriptor: int) -> None:
        for pid, channel in self._channels.items():
            if channel.fileno() == descriptor:
                self._poll.unregister(channel)
                os.kill(pid, signal.SIGKILL)
                return


def load_everything() -> None:
    """Import what a decoder may come to need: it can open no file any more, modules among them."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    sound = io.BytesIO()
    with wave.open(sound, "wb") as silence:
        silence.setparams((1, 2, 8000, 0, "NONE", ""))
        silence.writeframes(bytes(8000))
    sound.seek(0)
    with open_media(sound, max_duration=1) as media:
        list(media.channel_blocks(seconds=1))


def main(descriptor: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    av.logging.set_level(av.logging.PANIC)  # what FFmpeg prints is a stranger's text
    load_everything()
    gc.freeze()
    server = Server(socket.socket(fileno=descriptor))
    try:
        server.run()
    finally:
        server.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
