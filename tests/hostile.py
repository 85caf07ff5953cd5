"""Media files made to do harm: real ones of eight containers mutated from a seed, and bombs made by hand."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from functools import cache
from itertools import cycle, islice
from typing import NamedTuple

from speech.engines import SAMPLE_RATE
from tests.media import media_file, tone

HEADER_BYTES = 512
"""Where the fields are that decide how the rest is read."""


class HostileFile(NamedTuple):
    kind: str
    """Container and what was done to it."""
    data: bytes


def hostile_files(count: int, seed: int) -> Iterator[HostileFile]:
    """So many files; the same for the same seed."""
    chance = random.Random(seed)
    yield from islice((HostileFile(f"bomb {name}", make()) for name, make in BOMBS.items()), count)
    pairs = [(container, mutation) for mutation in MUTATIONS for container in originals()]
    for container, mutation in islice(cycle(pairs), max(0, count - len(BOMBS))):
        yield HostileFile(f"{container} {mutation}", MUTATIONS[mutation](originals()[container], chance))


@cache
def originals() -> dict[str, bytes]:
    """Three seconds of sound in eight containers."""
    return {
        "wav": media_file(tone(3), container="wav", codec="pcm_s16le"),
        "flac": media_file(tone(3), container="flac", codec="flac"),
        "mp3": media_file(tone(3), container="mp3", codec="libmp3lame"),
        "mp4": media_file(tone(3), container="mp4", codec="aac"),
        "video": media_file(tone(3), container="mp4", codec="aac", video_seconds=3),
        "ogg": media_file(tone(3, 48_000), rate=48_000, container="ogg", codec="libopus"),
        "webm": media_file(tone(3, 48_000), rate=48_000, container="webm", codec="libopus"),
        "matroska": media_file(tone(3), container="matroska", codec="aac"),
        "aiff": media_file(tone(3), container="aiff", codec="pcm_s16be"),
    }


def _flipped(data: bytes, chance: random.Random) -> bytes:
    """Bytes changed anywhere."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 10, 200))):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _header_fields(data: bytes, chance: random.Random) -> bytes:
    """Extreme values in the places of numbers."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(min(HEADER_BYTES, len(changed) - 8))
        size = chance.choice((1, 2, 4, 8))
        changed[place : place + size] = chance.choice((b"\x00", b"\xff", b"\x7f", b"\x80", b"\x01")) * size
    return bytes(changed)


def _truncated(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(1, len(data))]


def _spliced(data: bytes, chance: random.Random) -> bytes:
    """A stretch taken out, repeated, or moved."""
    first, last = sorted(chance.sample(range(len(data)), 2))
    place = chance.randrange(len(data))
    return chance.choice((data[:first] + data[last:], data[:place] + data[first:last] + data[place:]))


def _crossed(data: bytes, chance: random.Random) -> bytes:
    """The beginning of one container and the rest of another."""
    other = chance.choice(list(originals().values()))
    return data[: chance.randrange(8, 200)] + other[chance.randrange(8, 200) :]


MUTATIONS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "bytes": _flipped,
    "header": _header_fields,
    "truncated": _truncated,
    "spliced": _spliced,
    "crossed": _crossed,
}


def slow_flac(samples: int = 2_000, rate: int = 1, frames: int = 1) -> bytes:
    """Frames of constant samples at so many a second: at 1 Hz, 55 bytes are half an hour of sound."""
    stream_info = struct.pack(">HH", 16, 65535) + bytes(6)
    stream_info += ((rate << 44) | (15 << 36) | samples * frames).to_bytes(8, "big") + bytes(16)
    body = b"".join(_constant_frame(number, samples) for number in range(frames))
    return b"fLaC" + b"\x80\x00\x00\x22" + stream_info + body


def _constant_frame(number: int, samples: int) -> bytes:
    # the number of the frame is coded as UTF-8 codes characters
    header = b"\xff\xf8\x70\x08" + chr(number).encode() + struct.pack(">H", samples - 1)
    frame = header + bytes([_crc(header, 8, 0x07)]) + b"\x00\x00\x10"
    return frame + struct.pack(">H", _crc(frame, 16, 0x8005))


def _crc(data: bytes, width: int, polynomial: int) -> int:
    value = 0
    for byte in data:
        value ^= byte << (width - 8)
        for _ in range(8):
            value = (value << 1) ^ (polynomial if value >> (width - 1) else 0)
            value &= (1 << width) - 1
    return value


def _box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", len(body) + 8) + kind + body


def endless_mp4(samples: int = 16_000_000) -> bytes:
    """A few bytes of index that declare so many samples: each takes memory as the file is opened."""
    entry = _box(
        b".mp3", bytes(6), struct.pack(">H", 1), bytes(8), struct.pack(">HHHHI", 1, 16, 0, 0, 16_000 << 16)
    )
    table = _box(
        b"stbl",
        _box(b"stsd", bytes(4), struct.pack(">I", 1), entry),
        _box(b"stts", bytes(4), struct.pack(">III", 1, samples, 2)),
        _box(b"stsc", bytes(4), struct.pack(">IIII", 1, 1, 1, 1)),
        _box(b"stsz", bytes(4), struct.pack(">II", 2, samples)),
        _box(b"stco", bytes(4), struct.pack(">II", 1, 600)),
    )
    reference = _box(b"dref", bytes(4), struct.pack(">I", 1), _box(b"url ", struct.pack(">I", 1)))
    information = _box(b"minf", _box(b"smhd", bytes(8)), _box(b"dinf", reference), table)
    media = _box(
        b"mdia",
        _box(b"mdhd", bytes(12), struct.pack(">II", 64_000, samples), bytes(4)),
        _box(b"hdlr", bytes(8), b"soun", bytes(13)),
        information,
    )
    track = _box(b"trak", _box(b"tkhd", bytes(4), bytes(8), struct.pack(">I", 1), bytes(68)), media)
    movie = _box(b"moov", _box(b"mvhd", bytes(12), struct.pack(">II", 64_000, samples), bytes(80)), track)
    return _box(b"ftyp", b"isom", bytes(4), b"isom") + movie + _box(b"mdat", bytes(16))


def many_channels(channels: int = 8) -> bytes:
    """A sound WAV of so many channels."""
    samples = 2 * SAMPLE_RATE
    body: bytes = (tone(2)[0] * 32767).astype("<i2").repeat(channels).tobytes()
    format_ = struct.pack("<HHIIHH", 1, channels, SAMPLE_RATE, SAMPLE_RATE * 2 * channels, 2 * channels, 16)
    chunks = (
        b"WAVEfmt " + struct.pack("<I", 16) + format_ + b"data" + struct.pack("<I", samples * 2 * channels) + body
    )
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def fast_wav(rate: int = 2**31 - 1) -> bytes:
    """More samples a second than any recorder takes: the resampler's filter would grow with them."""
    data = bytearray(media_file(tone(1), container="wav", codec="pcm_s16le"))
    data[24:28] = struct.pack("<I", rate)
    return bytes(data)


BOMBS: dict[str, Callable[[], bytes]] = {
    "flac at 1 Hz": slow_flac,
    "flac at 1 Hz, long frame": lambda: slow_flac(43_000),
    "flac at 4 kHz": lambda: slow_flac(65_535, 4_000),
    "mp4 of 16 million samples": endless_mp4,
    "mp4 of 2 billion samples": lambda: endless_mp4(2**31 - 1),
    "wav of 8 channels": many_channels,
    "wav of 200 channels": lambda: many_channels(200),
    "wav at 2 GHz": fast_wav,
    "playlist": lambda: b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "concat script": lambda: b"ffconcat version 1.0\nfile /etc/passwd\n",
    "nothing but zeros": lambda: bytes(100_000),
}
