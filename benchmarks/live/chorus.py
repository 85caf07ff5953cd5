"""Hundreds of clients in one thread, which cost so little that what is measured is the server."""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from speech.engines import SAMPLE_RATE, Samples

FRAME_SECONDS = 0.02
PATIENCE_SECONDS = 300.0
"""Behind the last frame, for a session to end."""


@dataclass
class Voice:
    """A client: what it was told, by the seconds since its sound began."""

    connection: socket.socket
    protocol: ClientProtocol
    began: float
    """Monotonic seconds, at which its first frame begins to be spoken."""
    sent: int = 0
    """Frames."""
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    ended: float | None = None

    @property
    def delays(self) -> list[float]:
        """Seconds from the end of each utterance's sound to its final."""
        return [at - event["end"] for at, event in self.events if event["type"] == "asr_final"]


def sing(
    urls: Sequence[str], samples: Samples, count: int, *, options: dict[str, Any], spread: float = 2.0
) -> list[Voice]:
    """Play one recording at the speed of speech in so many sessions, of these servers in turn.

    They begin within ``spread`` seconds, as people do not begin together. Raises RuntimeError where a session does
    not end well.
    """
    frames = [*_frames(samples), _masked(Opcode.TEXT, b'{"type": "end"}')]
    start = {"type": "start", "hints": {"user_lang_pref": "en"}, "options": options}
    opening = _masked(Opcode.TEXT, json.dumps(start).encode())
    now = time.monotonic()
    voices: list[Voice] = []
    left = set(range(count))
    with selectors.DefaultSelector() as selector:
        for number in range(count):
            voice = _connect(urls[number % len(urls)], opening)
            voice.began = max(now + spread * number / count, time.monotonic())
            selector.register(voice.connection, selectors.EVENT_READ, number)
            voices.append(voice)
            _turn(selector, voices, frames, left)
        deadline = time.monotonic() + len(samples) / SAMPLE_RATE + PATIENCE_SECONDS
        while left and time.monotonic() < deadline:
            _turn(selector, voices, frames, left)
    if left:
        raise RuntimeError(f"{len(left)} of {count} sessions have not ended")
    return voices


def _turn(
    selector: selectors.BaseSelector, voices: Sequence[Voice], frames: Sequence[bytes], left: set[int]
) -> None:
    """Send what has been spoken by now, and read what has come."""
    for number in left:
        if number < len(voices):
            _send(voices[number], frames)
    for key, _ in selector.select(FRAME_SECONDS / 4):
        voice = voices[key.data]
        if not _receive(voice):
            selector.unregister(voice.connection)
            voice.connection.close()
            left.discard(key.data)


def _send(voice: Voice, frames: Sequence[bytes]) -> None:
    # a frame can be sent once its last sample was spoken
    due = min(int((time.monotonic() - voice.began) / FRAME_SECONDS), len(frames))
    try:
        while voice.unsent or voice.sent < due:
            if not voice.unsent:
                voice.unsent = memoryview(frames[voice.sent])
                voice.sent += 1
            voice.unsent = voice.unsent[voice.connection.send(voice.unsent) :]
    except BlockingIOError:
        pass  # the server does not keep up: later


def _receive(voice: Voice) -> bool:
    """Whether more may come. Raises RuntimeError."""
    data = voice.connection.recv(65536)
    at = time.monotonic() - voice.began
    if data:
        voice.protocol.receive_data(data)
    for event in voice.protocol.events_received():
        if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
            told = json.loads(bytes(event.data))
            if told["type"] == "error":
                raise RuntimeError(f"a session failed: {told}")
            voice.events.append((at, told))
            voice.ended = at if told["type"] == "end" else None
    if not data and voice.ended is None:
        raise RuntimeError("a session was closed before its end")
    return bool(data)


def _connect(url: str, opening: bytes) -> Voice:
    address = urlsplit(url)
    connection = socket.create_connection((address.hostname, address.port), timeout=PATIENCE_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    protocol = ClientProtocol(parse_uri(f"{url}/ws/stream"))
    protocol.send_request(protocol.connect())
    connection.sendall(b"".join(protocol.data_to_send()))
    while not [*protocol.events_received()]:
        protocol.receive_data(connection.recv(65536))
        if protocol.handshake_exc is not None:
            raise RuntimeError("a session could not be opened") from protocol.handshake_exc
    connection.sendall(opening)
    connection.setblocking(False)
    return Voice(connection, protocol, time.monotonic())


def _frames(samples: Samples) -> list[bytes]:
    pcm = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")
    size = int(FRAME_SECONDS * SAMPLE_RATE)
    return [_masked(Opcode.BINARY, pcm[at : at + size].tobytes()) for at in range(0, len(pcm), size)]


def _masked(opcode: Opcode, data: bytes) -> bytes:
    """A message of a client. All send the same bytes: under a mask of zeros these are made once."""
    size = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0xFE]) + len(data).to_bytes(2, "big")
    return bytes([0x80 | opcode]) + size + bytes(4) + data
