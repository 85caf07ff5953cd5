"""Pages instead of recordings: what is found on them, and what a page may not make us do."""

from __future__ import annotations

import ipaddress
import json
import platform
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from db.models import JobStatus
from speech.audio.isolated import sandbox
from tasks.errors import Permanent
from tasks.fetch import pages
from tasks.fetch.address import is_page, read_address
from tasks.fetch.pages import finding, visits
from tests.tasks.fetch.server import Handler, WebServer, breaking, redirect, serving, trickling, whole
from tests.tasks.fetch.test_step import outcome
from tests.tasks.fetch.test_web import settings_with
from tests.tasks.pipeline import MakeRuntime, recording

LOCAL = ipaddress.ip_network("127.0.0.0/8")
METADATA = "http://169.254.169.254/latest/meta-data/talk.mp3"


@pytest.fixture
def web() -> Iterator[WebServer]:
    with serving() as server:
        yield server


def page(body: str, head: str = "") -> Callable[[Handler], None]:
    html = f"<!doctype html><html><head><title>A talk</title>{head}</head><body>{body}</body></html>"
    return lambda handler: handler.answer(200, html.encode(), Content_Type="text/html; charset=utf-8")


def media(body: bytes) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(200, body, Content_Type="audio/flac")


def get(address: str, **changes: Any) -> tuple[bytes, str | None]:
    found = read_address(address, settings_with(fetch_pages=True, **changes))
    return b"".join(found.blocks), found.filename


def refused(address: str, **changes: Any) -> str:
    with pytest.raises(Permanent) as caught:
        get(address, **changes)
    assert "secret" not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize(
    ("beginning", "expected"),
    [
        (b"<!DOCTYPE html>", True),
        (b"\xef\xbb\xbf \n<html lang=en>", True),
        ("\ufeff<!doctype html>".encode("utf-16-le"), True),
        (b"<?xml version='1.0'?><rss>", True),
        (b"fLaC\0\0", False),
        (b"\0\0\0\x20ftypisom", False),
        (b"RIFF<html>", False),
        (b"<htmlx", False),
        (b"<", False),
        (b"", False),
    ],
)
def test_what_is_a_page(beginning: bytes, expected: bool) -> None:
    assert is_page(beginning) is expected


class TestOff:
    def test_a_page_is_called_one(self, make_runtime: MakeRuntime, web: WebServer) -> None:
        web.routes["/"] = page('<audio src="/talk.flac"></audio>')
        code, job, attempts = outcome(make_runtime, f"{web.url}/", fetch_private=[LOCAL])
        assert (code, job.status, attempts) == ("url_is_page", JobStatus.FAILED, 1)
        assert web.paths == ["/"]

    def test_nor_without_the_extra(self, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pages, "installed", lambda: False)
        web.routes["/"] = page('<audio src="/talk.flac"></audio>')
        assert refused(f"{web.url}/") == "url_is_page"


def test_a_job_of_a_page_goes_on_like_any_other(make_runtime: MakeRuntime, web: WebServer) -> None:
    """Its recording breaks off and is resumed; the job is called after the page."""
    body = recording()
    web.routes["/talk"] = page("", '<meta property="og:audio" content="/files/1234.flac?token=t">')
    web.routes["/files/1234.flac"] = breaking(body, after=len(body) // 2 + 1)
    code, job, _ = outcome(make_runtime, f"{web.url}/talk?key=k", fetch_private=[LOCAL], fetch_pages=True)
    assert (code, job.bytes, job.filename) == (None, len(body), "A talk.flac")
    assert job.source_url == f"{web.url}/talk"
    assert web.paths == ["/talk?key=k", "/talk?key=k", "/files/1234.flac?token=t", "/files/1234.flac?token=t"]


class TestFound:
    @pytest.mark.parametrize(
        ("body", "head"),
        [
            ('<video width=1><source src="/talk.flac" type="video/mp4"></video>', ""),
            (
                "",
                '<script type="application/ld+json">{"@context": "https://schema.org", "@type": "VideoObject", '
                '"name": "A talk", "contentUrl": "/inner"}</script>',
            ),
        ],
        ids=["video", "JSON-LD"],
    )
    def test_by_what_the_page_says(self, web: WebServer, body: str, head: str) -> None:
        web.routes["/"] = page(body, head.replace('"/inner"', f'"{web.url}/talk.flac"'))
        web.routes["/talk.flac"] = media(b"sound")
        assert get(f"{web.url}/")[0] == b"sound"

    def test_sound_rather_than_video_and_files_rather_than_streams(self, web: WebServer) -> None:
        sources = [
            {"file": f"{web.url}/stream.m3u8", "type": "application/x-mpegurl"},
            {"file": f"{web.url}/film.mp4", "type": "video/mp4", "height": 1080},
        ]
        setup = json.dumps({"sources": sources, "title": "x"})
        web.routes["/"] = page(f"<script>jwplayer('a').setup({setup});</script>")
        web.routes["/stream.m3u8"] = whole(
            b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/1.ts\n#EXT-X-ENDLIST\n"
        )
        web.routes["/film.mp4"] = whole(b"film")
        assert get(f"{web.url}/")[0] == b"film"

    def test_a_stream_alone_is_none(self, web: WebServer) -> None:
        web.routes["/"] = page(f'<video><source src="{web.url}/s.m3u8" type="application/x-mpegurl"></video>')
        web.routes["/s.m3u8"] = whole(b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/1.ts\n#EXT-X-ENDLIST\n")
        with pytest.raises(Permanent, match="stream of pieces") as caught:
            get(f"{web.url}/")
        assert caught.value.code == "url_no_media"

    def test_nothing(self, web: WebServer) -> None:
        web.routes["/"] = page("words alone")
        assert refused(f"{web.url}/?signature=secret") == "url_no_media"

    def test_several(self, web: WebServer) -> None:
        web.routes["/"] = page('<audio src="/1.mp3"></audio><audio src="/2.mp3"></audio>')
        assert refused(f"{web.url}/") == "url_is_playlist"
        assert web.paths == ["/", "/"]

    def test_another_page(self, web: WebServer) -> None:
        web.routes["/"] = page('<audio src="/talk.mp3"></audio>')
        web.routes["/talk.mp3"] = page("sold out")
        assert refused(f"{web.url}/") == "url_no_media"


class TestHostile:
    @pytest.mark.parametrize(
        ("body", "head"),
        [
            (f'<audio src="{METADATA}"></audio>', ""),
            ("", f'<meta property="og:video" content="{METADATA}">'),
            ("", f'<meta name="twitter:player" content="{METADATA}">'),
            ('<audio src="/away.mp3"></audio>', ""),
            ("", '<meta http-equiv="refresh" content="0; url=/away.mp3">'),
        ],
        ids=["audio", "og:video", "iframe", "redirect of the file", "redirect of a page"],
    )
    def test_leads_to_what_only_we_reach(self, web: WebServer, body: str, head: str) -> None:
        web.routes["/"] = page(body, head)
        web.routes["/away.mp3"] = redirect(METADATA)
        assert refused(f"{web.url}/", fetch_private=["127.0.0.1/32"]) == "url_not_allowed"

    @pytest.mark.parametrize("address", ["file:///etc/passwd", "s3://given/x.mp3"])
    def test_leads_to_no_web(self, web: WebServer, address: str) -> None:
        web.routes["/"] = page(f'<audio src="{address}"></audio>')
        assert refused(f"{web.url}/") in ("url_not_allowed", "url_no_media")
        assert set(web.paths) == {"/"}

    def test_never_ends(self, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
        def endless(handler: Handler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Type", "text/html")
            handler.end_headers()
            handler.wfile.write(b'<!doctype html><audio src="/talk.flac"></audio>')
            while True:
                handler.wfile.write(b" " * 65536)

        monkeypatch.setattr(visits, "PAGE_BYTES", 100_000)
        web.routes["/"] = endless
        web.routes["/talk.flac"] = media(b"sound")
        assert get(f"{web.url}/")[0] == b"sound"

    def test_trickles(self, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
        slow = trickling(0.02)
        answers = [page("words"), slow]
        web.routes["/"] = lambda handler: answers.pop(0)(handler)
        monkeypatch.setattr(finding, "SECONDS", 3.0)
        began = time.monotonic()
        assert refused(f"{web.url}/", min_upload_rate=0) == "url_page_unsupported"
        assert time.monotonic() - began < 10

    def test_leads_in_circles(self, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(visits, "MAX_VISITS", 5)

        def onward(handler: Handler) -> None:
            number = int(handler.path.partition("?")[2] or 0)
            page("", f'<meta http-equiv="refresh" content="0; url=/?{number + 1}">')(handler)

        web.routes["/"] = onward
        assert refused(f"{web.url}/") == "url_page_unsupported"
        assert len(web.asked) == 1 + 5

    def test_is_made_for_a_slow_expression(self, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """A megabyte over which one of yt-dlp's expressions would take half an hour, and hold the interpreter."""
        monkeypatch.setattr(finding, "CPU_SECONDS", 3)
        web.routes["/"] = page("videojs( " * 110_000)
        assert refused(f"{web.url}/") == "url_page_unsupported"

    def test_is_a_bomb_of_entities(self, web: WebServer) -> None:
        entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
        bomb = f'<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY e0 "ha">{entities}]><rss>&e11;</rss>'
        web.routes["/"] = whole(bomb.encode())
        assert refused(f"{web.url}/") in ("url_no_media", "url_page_unsupported")

    def test_is_called_strangely(self, web: WebServer) -> None:
        web.routes["/"] = whole(
            "<!doctype html><title>../../etc/\x1b[31mpass\u202ewd\x7f</title>"
            '<meta property="og:audio" content="/talk.flac">'.encode()
        )
        web.routes["/talk.flac"] = media(b"sound")
        assert get(f"{web.url}/")[1] == "-..-etc- [31mpass wd.flac"


def test_what_reads_a_page_can_do_nothing_else(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at from outside, while it waits for the page."""
    monkeypatch.setenv("LONGHAND_S3_ACCESS_KEY", "hunter")
    monkeypatch.setenv("LONGHAND_S3_SECRET_KEY", "hunter2")
    started: list[subprocess.Popen[bytes]] = []
    original = subprocess.Popen

    def popen(*arguments: Any, **others: Any) -> subprocess.Popen[bytes]:
        started.append(original(*arguments, **others))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)
    seen: dict[str, str] = {}

    def look(handler: Handler) -> None:
        for process in started:
            seen.update(
                {name: Path(f"/proc/{process.pid}/{name}").read_text() for name in ("status", "environ", "limits")}
            )
        page("words alone")(handler)

    web.routes["/"] = look
    assert refused(f"{web.url}/") == "url_no_media"
    assert re.search(r"Max open files\s+0\s+0\s", seen["limits"])
    assert re.search(r"NoNewPrivs:\s+1\n", seen["status"])
    if platform.machine() in sandbox.NUMBERS:
        assert re.search(r"Seccomp:\s+2\n", seen["status"])
    assert "hunter2" not in seen["environ"]
    assert started[0].poll() is not None
