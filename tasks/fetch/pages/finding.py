"""The worker's side: what recording a page holds, as yt-dlp finds it in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import IO, Any, cast

from db.settings import MIB, Settings
from db.sources import SourceKind, SourceNotAllowed, filename_of, parse_source
from speech.audio.isolated import sandbox
from tasks.errors import Permanent
from tasks.fetch.network import not_allowed
from tasks.fetch.pages.visits import Visits

SECONDS = 120.0
"""For all of a page, its requests among them."""

CPU_SECONDS = 30
"""Some of yt-dlp's expressions take quadratic time, and hold the interpreter: a page can be made for it."""

MEMORY_BYTES = 256 * MIB
MAX_MESSAGE_BYTES = MIB
MAX_TITLE = 200

NO_MEDIA = "url_no_media"
UNSUPPORTED = "url_page_unsupported"
FAILURES = {
    NO_MEDIA: "The page holds no recording that is found.",
    "streamed": "The page has its recording as a stream of pieces (HLS, DASH) alone, not as one file.",
    "url_is_playlist": "The page holds several recordings; give the address of one.",
    UNSUPPORTED: "The recording of the page cannot be found.",
}
"""What the reader says, in our words."""


@dataclass(frozen=True, slots=True)
class Media:
    """The recording of a page: one file on the web."""

    address: str
    filename: str


def find_media(address: str, settings: Settings, deadline: float) -> Media:
    """The best sound on a page that is one file. ``deadline`` in monotonic seconds. Raises Permanent, Unreachable.

    The address is one that the settings allow; that it may be connected to is still to be checked.
    """
    until = min(deadline, time.monotonic() + SECONDS)
    with closing(Visits(settings, until)) as visits, _reader(until) as (receive, send):
        if _message(receive) != {"ready": True}:
            raise RuntimeError("the process that reads pages does not start")
        _send(send, {"url": address})
        while (message := _message(receive)) is not None and "ask" in message:
            _send(send, visits.make(message["ask"]))
    if message is not None and "url" in message:
        return _media(message, settings)
    if time.monotonic() >= until:
        raise Permanent(UNSUPPORTED, "Finding the recording of the page takes too long.")
    if visits.trouble is not None:
        raise visits.trouble
    if message is None:
        raise Permanent(UNSUPPORTED, "The page takes more time or memory than this server allows.")
    raise _failure(message)


@contextmanager
def _reader(until: float) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The process, killed when the time is over or nobody listens any more: its output and its input."""
    process = subprocess.Popen(  # noqa: S603  (our own module)
        [sys.executable, "-m", "tasks.fetch.pages.reader", str(MEMORY_BYTES), str(CPU_SECONDS)],
        # nothing is imported but what is installed
        env=sandbox.environment() | {"YTDLP_NO_PLUGINS": "1", "YTDLP_NO_LAZY_EXTRACTORS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
    )
    alarm = threading.Timer(max(0.0, until - time.monotonic()), process.kill)
    alarm.start()
    try:
        yield cast(IO[bytes], process.stdout), cast(IO[bytes], process.stdin)
    finally:
        alarm.cancel()
        process.kill()
        process.communicate()


def _message(receive: IO[bytes]) -> dict[str, Any] | None:
    """The next that the reader says, or None when it has ended, or talks nonsense."""
    line = receive.readline(MAX_MESSAGE_BYTES)
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _send(send: IO[bytes], message: dict[str, Any]) -> None:
    try:
        send.write(json.dumps(message).encode() + b"\n")
        send.flush()
    except BrokenPipeError:
        pass  # it has ended: reading tells


def _media(message: dict[str, Any], settings: Settings) -> Media:
    try:
        source = parse_source(str(message["url"]), settings)
    except SourceNotAllowed as error:
        raise Permanent(error.code, str(error)) from error
    if source.kind != SourceKind.HTTP:
        raise not_allowed("The page leads to something that is neither http nor https.")
    return Media(source.address, _filename(str(message.get("title") or ""), str(message.get("ext") or "")))


def _filename(title: str, ext: str) -> str:
    words = " ".join("".join(each if each.isprintable() else " " for each in title).split())
    stem = re.sub(r"[/\\]", "-", words)[:MAX_TITLE].strip(". ")
    return filename_of(f"{stem}.{ext}" if stem and re.fullmatch(r"[A-Za-z0-9]{1,8}", ext) else stem)


def _failure(message: dict[str, Any]) -> Permanent:
    failure = str(message.get("failure"))
    failure = failure if failure in FAILURES else UNSUPPORTED
    said = FAILURES[failure]
    if failure == UNSUPPORTED and message.get("reason"):
        # an address in it may hold a secret
        cause = re.sub(r"\S*[:=%]\S*", "…", str(message["reason"]))
        said += f" yt-dlp says: {''.join(each for each in cause if each.isprintable())[:200]}"
    return Permanent(NO_MEDIA if failure == "streamed" else failure, said)
