"""Downloading over HTTP: redirects are followed by hand, and a broken connection is resumed where it broke."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from db.settings import MIB, Settings
from tasks.errors import Permanent, Unreachable
from tasks.fetch.network import GuardedBackend, GuardedTransport, not_allowed

MAX_REDIRECTS = 5
MAX_RESUMPTIONS = 4
"""In a row without a byte between them."""

PAUSE_SECONDS = 0.5
"""Before the first resumption; doubles."""

REDIRECTS = (301, 302, 303, 307, 308)
PASSING = (408, 425, 429)
"""Statuses below 500 that may be others later."""


@dataclass(slots=True)
class _Progress:
    """What the first answer said, and how far the download is."""

    deadline: float
    started: float
    received: int = 0
    validator: str | None = None
    """For ``If-Range``: without one, what comes later may belong to another file."""


def open_client(settings: Settings, deadline: float) -> httpx.Client:
    """Reaches what the settings allow, until the deadline in monotonic seconds; follows no redirect by itself."""
    transport = GuardedTransport(GuardedBackend(settings.fetch_private, deadline))
    timeout = httpx.Timeout(settings.stall_seconds, connect=min(10.0, settings.stall_seconds))
    return httpx.Client(transport=transport, timeout=timeout, trust_env=False)


def download(address: str, settings: Settings, deadline: float) -> Generator[bytes, None, None]:
    """The body at an address of http(s), in blocks, until the deadline in monotonic seconds.

    Raises Permanent or Unreachable; no message holds a secret.
    """
    url = httpx.URL(address)
    progress = _Progress(deadline=deadline, started=time.monotonic())
    failures = 0
    while True:
        before = progress.received
        try:
            with (
                open_client(settings, deadline) as client,
                _answer(client, url, progress) as answer,
            ):
                yield from _body(answer, progress, settings)
            return
        except (httpx.TransportError, httpx.DecodingError) as error:
            failures = 1 if progress.received > before else failures + 1
            if time.monotonic() > progress.deadline:
                raise _too_slow(settings) from error
            if not progress.received or progress.validator is None or failures > MAX_RESUMPTIONS:
                raise Unreachable(f"{url.host} cannot be reached, or breaks off: {reason(error)}.") from error
        time.sleep(PAUSE_SECONDS * 2 ** (failures - 1))


def reason(error: Exception) -> str:
    """What a library says is kept short: a server may have had its say in it."""
    return re.sub(r"[^\x20-\x7e]", "?", f"{type(error).__name__}: {error}")[:200]


@contextmanager
def _answer(client: httpx.Client, url: httpx.URL, progress: _Progress) -> Iterator[httpx.Response]:
    """The answer behind all redirects, each of which is checked like the first address."""
    headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "Longhand"}
    if progress.received:
        headers |= {"Range": f"bytes={progress.received}-", "If-Range": progress.validator or ""}
    for _ in range(MAX_REDIRECTS + 1):
        # `httpx` sends user and password of the URL to its own host alone
        answer = client.send(client.build_request("GET", url, headers=headers), stream=True)
        try:
            if answer.status_code not in REDIRECTS:
                _check(answer, progress)
                yield answer
                return
            url = _next(url, answer)
        finally:
            answer.close()
    raise Permanent("url_refused", f"The address redirects more than {MAX_REDIRECTS} times.")


def _next(url: httpx.URL, answer: httpx.Response) -> httpx.URL:
    try:
        following = url.join(answer.headers["Location"])
    except (KeyError, httpx.InvalidURL, ValueError):
        raise Permanent("url_refused", "The address redirects to nowhere.") from None
    if following.scheme not in ("http", "https") or not following.host:
        raise not_allowed("The address redirects to something that is neither http nor https.")
    same = (following.scheme, following.host, following.port) == (url.scheme, url.host, url.port)
    return following.copy_with(userinfo=url.userinfo if same else b"")


def _check(answer: httpx.Response, progress: _Progress) -> None:
    status, host = answer.status_code, answer.url.host
    if status in (404, 410):
        raise Permanent("url_not_found", f"{host} has no such file.")
    if status >= 500 or status in PASSING:
        raise Unreachable(f"{host} answered {status}.")
    if progress.received:
        _check_resumed(answer, progress)
    elif status != 200:
        raise Permanent("url_refused", f"{host} answered {status} instead of the recording.")
    check_plain(answer)


def check_plain(answer: httpx.Response) -> None:
    """Nothing is unpacked. Raises Permanent."""
    if answer.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
        raise Permanent("url_refused", f"{answer.url.host} compresses what it was asked to send as it is.")


def _check_resumed(answer: httpx.Response, progress: _Progress) -> None:
    span = re.match(r"bytes (\d{1,19})-", answer.headers.get("Content-Range", ""))
    continues = answer.status_code == 206 and span is not None and int(span[1]) == progress.received
    validator = _validator(answer)
    if not continues or (validator is not None and validator != progress.validator):
        raise Unreachable("The recording changed while it was fetched, or cannot be resumed.")


def _validator(answer: httpx.Response) -> str | None:
    etag: str | None = answer.headers.get("ETag")
    modified: str | None = answer.headers.get("Last-Modified")
    return etag if etag and etag.startswith('"') else modified


def _body(answer: httpx.Response, progress: _Progress, settings: Settings) -> Iterator[bytes]:
    declared = answer.headers.get("Content-Length", "")
    if declared.isdigit() and progress.received + int(declared) > settings.max_upload_bytes:
        raise too_large(settings)
    if not progress.received:
        progress.validator = _validator(answer)
    # as it comes, so that a trickle is seen as such
    for block in answer.iter_raw():
        progress.received += len(block)
        if progress.received > settings.max_upload_bytes:
            raise too_large(settings)
        elapsed = time.monotonic() - progress.started
        if elapsed > settings.stall_seconds and progress.received < settings.min_upload_rate * elapsed:
            raise _too_slow(settings)
        yield block


def too_large(settings: Settings) -> Permanent:
    limit = settings.max_upload_bytes
    return Permanent(
        "url_too_large",
        f"The recording is larger than this server's limit of {limit / MIB:,.0f} MiB ({limit} bytes).",
    )


def _too_slow(settings: Settings) -> Permanent:
    return Permanent(
        "url_too_slow",
        f"The recording comes at less than {settings.min_upload_rate} bytes a second, or takes longer than "
        f"{settings.fetch_seconds:g} s; offer it on a faster server, or upload it.",
    )
