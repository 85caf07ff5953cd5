"""A client of ``/ws/stream``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.media import DATA
from tests.waiting import LIMIT_SECONDS

Pcm = NDArray[np.int16]
RATE = 16_000
FRAME_SECONDS = 0.1


def speech(name: str = "librivox_0870.flac") -> Pcm:
    """A recording of the tests, with a second of silence behind it."""
    with av.open(str(DATA / name)) as container:
        parts = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    return np.concatenate([*parts, np.zeros(RATE, np.int16)]).astype(np.int16)


class LiveClient:
    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []
        self.close_code: int | None = None
        self.close_reason = ""

    def start(self, **changes: Any) -> dict[str, Any]:
        """Begin a session; its ack."""
        self.socket.send(json.dumps({"type": "start", **changes}))
        return self.wait("ack", "error")

    def say(self, pcm: Pcm, speed: float = 0.0, rate: int = RATE) -> None:
        """Send sound, ``speed`` times as fast as it was spoken, or as fast as it is taken."""
        began = time.monotonic()
        size = int(FRAME_SECONDS * rate)
        for at in range(0, len(pcm), size):
            if speed:
                time.sleep(max(0.0, began + at / rate / speed - time.monotonic()))
            self.socket.send(pcm[at : at + size].tobytes())

    def command(self, kind: str) -> None:
        self.socket.send(json.dumps({"type": kind}))

    def wait(self, *kinds: str) -> dict[str, Any]:
        """The next event of one of these kinds."""
        while True:
            event = self.receive()
            if event.get("type") in kinds:
                return event

    def receive(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.socket.recv(LIMIT_SECONDS))
        self.events.append(event)
        return event

    def rest(self) -> list[dict[str, Any]]:
        """All events until the server closes, with those before."""
        try:
            while True:
                self.receive()
        except ConnectionClosed as closed:
            if closed.rcvd is not None:
                self.close_code, self.close_reason = closed.rcvd.code, closed.rcvd.reason
        return self.events

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("type") == kind]

    @property
    def words(self) -> list[str]:
        return [word["text"] for final in self.of("asr_final") for word in final["words"]]


@contextmanager
def live_client(url: str, path: str = "/ws/stream", **options: Any) -> Iterator[LiveClient]:
    with connect(url + path, max_size=None, compression=None, open_timeout=LIMIT_SECONDS, **options) as socket:
        yield LiveClient(socket)
