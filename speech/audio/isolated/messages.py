"""What the worker and a decoding process say to each other, over a socket that keeps messages apart.

Each message is one byte of kind and a payload, at most ``MAX_MESSAGE_BYTES`` in all.

    decoder → worker   READ    offset and size of the bytes it wants next
                       INFO    JSON of MediaInfo, once the file is open
                       PCM     int16, interleaved
                       END     JSON {"decoded_seconds"}
                       ERROR   JSON {"code", "message"}
    worker → decoder   DATA    the bytes asked for; none at the end of the file
                       START   JSON {"split"}: send PCM, channels mixed or apart
    server → worker    DIED    exit status of a decoder that is gone
"""

from __future__ import annotations

import json
import socket
import struct
from enum import IntEnum
from typing import Any

MAX_MESSAGE_BYTES = 64 * 1024 + 64
MAX_PAYLOAD_BYTES = 64 * 1024
READ_FORMAT = struct.Struct("<QI")
MEMORY_LIMIT = "audio_memory_limit"
BUG = "bug"
"""Codes of errors that the worker puts in its own words."""

STATUS_FORMAT = struct.Struct("<i")


class Kind(IntEnum):
    READ = 1
    INFO = 2
    PCM = 3
    END = 4
    ERROR = 5
    DATA = 6
    START = 7
    DIED = 8


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a channel for one decoding."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(channel: socket.socket, kind: Kind, payload: bytes = b"") -> None:
    channel.sendmsg([bytes([kind]), payload])


def send_json(channel: socket.socket, kind: Kind, **content: Any) -> None:
    send(channel, kind, json.dumps(content).encode())


def receive(channel: socket.socket) -> tuple[Kind, memoryview]:
    """The next message. Raises EOFError when the other side is gone, ValueError for what is no message."""
    data = channel.recv(MAX_MESSAGE_BYTES)
    if not data:
        raise EOFError("the other side of the channel is gone")
    return Kind(data[0]), memoryview(data)[1:]
