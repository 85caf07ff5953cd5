"""What an address of http(s) leads to: a recording, or a page that has one."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from db.settings import Settings
from tasks.errors import Permanent
from tasks.fetch import pages
from tasks.fetch.pages.finding import NO_MEDIA, find_media
from tasks.fetch.web import download

SNIFFED_BYTES = 512
PAGE = re.compile(
    rb"<(!--|\?xml|!doctype\s+html|(html|head|body|title|meta|link|script|style|iframe|div|p|h1|br|table|rss|feed)[\s>/])",
    re.IGNORECASE,
)
BEFORE = b"\xef\xbb\xbf\xff\xfe \t\r\n\f"
"""Marks of the byte order, and white space."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Its content in blocks, and what it is called where its address does not say so."""

    blocks: Iterator[bytes]
    filename: str | None = None


def read_address(address: str, settings: Settings) -> Recording:
    """The recording at an address, or of the page there. Raises Permanent or Unreachable, also as it is read."""
    deadline = time.monotonic() + settings.fetch_seconds
    blocks = download(address, settings, deadline)
    beginning = _beginning(blocks)
    if not is_page(beginning):
        return Recording(_rejoined(beginning, blocks))
    blocks.close()
    if not (settings.fetch_pages and pages.installed()):
        raise Permanent(
            "url_is_page", "The address leads to a web page; give the address of the recording itself."
        )
    media = find_media(address, settings, deadline)
    blocks = download(media.address, settings, deadline)
    beginning = _beginning(blocks)
    if is_page(beginning):
        blocks.close()
        raise Permanent(NO_MEDIA, "Where the page has its recording, there is another page.")
    return Recording(_rejoined(beginning, blocks), media.filename)


def is_page(beginning: bytes) -> bool:
    return PAGE.match(_text(beginning)) is not None


def _text(beginning: bytes) -> bytes:
    # the zeros of UTF-16
    return beginning[:SNIFFED_BYTES].replace(b"\0", b"").lstrip(BEFORE)


def _beginning(blocks: Iterator[bytes]) -> bytes:
    """As much as tells a page from a recording, which is a byte of most recordings."""
    beginning = b""
    while len(beginning) < SNIFFED_BYTES and _text(beginning)[:1] in (b"", b"<"):
        block = next(blocks, None)
        if block is None:
            break
        beginning += block
    return beginning


def _rejoined(beginning: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    if beginning:
        yield beginning
    yield from blocks
