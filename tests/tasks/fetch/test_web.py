"""Downloading: what a server may do, and what it may not make us do."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from db.settings import Settings
from tasks.errors import Permanent, Unreachable
from tasks.fetch import web as fetching
from tasks.fetch.network import may_connect
from tasks.fetch.web import download
from tests.tasks.fetch.server import WebServer, breaking, redirect, serving, trickling, whole
from tests.tls import Authority

BODY = bytes(range(256)) * 2000
LOCAL = ["127.0.0.0/8"]


@pytest.fixture
def web() -> Iterator[WebServer]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PAUSE_SECONDS", 0.001)


def settings_with(**changes: Any) -> Settings:
    quick = {"fetch_private": LOCAL, "stall_seconds": 5.0, "max_upload_bytes": 1_000_000}
    return Settings.model_validate(quick | changes)


def get(address: str, **changes: Any) -> bytes:
    settings = settings_with(**changes)
    return b"".join(download(address, settings, time.monotonic() + settings.fetch_seconds))


def refused(address: str, **changes: Any) -> str:
    with pytest.raises(Permanent) as caught:
        get(address, **changes)
    return caught.value.code


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "0.0.0.0"),
        *("100.64.0.1", "100.100.100.200", "192.0.0.192", "168.63.129.16", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
        *("255.255.255.255", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1"),
        *("fd00:ec2::254", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::1"),
        *("2002:a9fe:a9fe::", "2001:db8::1"),
        "2001:0:4136:e378:8000:63bf:80ff:fffe",  # Teredo, with 127.0.0.1 inside
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not may_connect(address)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::"],
)
def test_addresses_that_are(address: str) -> None:
    assert may_connect(address)


class TestGuard:
    @pytest.mark.parametrize(
        "host",
        [
            *("127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "0.0.0.0"),
            *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]", "169.254.169.254", "①②⑦.⓪.⓪.①"),
        ],
    )
    def test_no_spelling_of_this_machine_is_connected_to(self, web: WebServer, host: str) -> None:
        web.routes["/"] = whole(BODY)
        port = web.url.rpartition(":")[2]
        # some spellings are no URL, or no host to the resolver
        with pytest.raises((Permanent, Unreachable, httpx.InvalidURL)) as caught:
            get(f"http://{host}:{port}/", fetch_private=[])
        assert not isinstance(caught.value, Permanent) or caught.value.code == "url_not_allowed"
        assert web.asked == []

    def test_a_name_that_leads_to_a_private_address(self, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
        web.routes["/"] = whole(BODY)
        monkeypatch.setattr(socket, "getaddrinfo", resolving({"innocent.example": ["127.0.0.1"]}))
        port = web.url.rpartition(":")[2]
        assert refused(f"http://innocent.example:{port}/", fetch_private=[]) == "url_not_allowed"
        assert web.asked == []

    def test_a_name_that_changes_its_mind(self, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """Public when it is checked, private a moment later: the name is asked once, and what it said is used."""
        asked: list[str] = []
        connected: list[Any] = []

        def rebinding(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
            asked.append(host)
            address = "1.1.1.1" if len(asked) == 1 else "127.0.0.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        def connect(address: Any, *_: Any, **__: Any) -> socket.socket:
            connected.append(address)
            raise ConnectionRefusedError("nobody there")

        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        monkeypatch.setattr(socket, "create_connection", connect)
        with pytest.raises(Unreachable):
            get("http://rebinding.example/", fetch_private=[])
        assert asked == ["rebinding.example"]
        assert connected == [("1.1.1.1", 80)]

    def test_every_redirect_is_checked(self, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
        web.routes["/"] = redirect("http://169.254.169.254/latest/meta-data/")
        assert refused(f"{web.url}/") == "url_not_allowed"
        for location in ("file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/_x", "http://", "unix:/x"):
            web.routes["/"] = redirect(location)
            assert refused(f"{web.url}/") in ("url_not_allowed", "url_refused")

    def test_a_network_that_the_settings_allow(self, web: WebServer) -> None:
        web.routes["/"] = whole(BODY)
        assert get(f"{web.url}/", fetch_private=["127.0.0.1/32"]) == BODY
        assert refused(f"{web.url}/", fetch_private=["10.0.0.0/8", "127.0.0.2/32"]) == "url_not_allowed"

    def test_no_proxy_of_the_environment_is_asked(self, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
        web.routes["/"] = whole(BODY)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert get(f"{web.url}/") == BODY


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("tls") / "ca")


class TestTls:
    @pytest.mark.parametrize(("named", "trusted"), [("DNS:files.example", True), ("DNS:other.example", False)])
    def test_the_name_is_checked_though_an_address_is_connected_to(
        self, authority: Authority, named: str, trusted: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        with serving(authority.context(named)) as web:
            web.routes["/"] = whole(BODY)
            monkeypatch.setattr(socket, "getaddrinfo", resolving({"files.example": ["127.0.0.1"]}))
            address = f"https://files.example:{web.url.rpartition(':')[2]}/"
            if trusted:
                assert get(address) == BODY
                assert web.asked[0][1]["Host"].startswith("files.example")
            else:
                with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
                    get(address)
                assert web.asked == []


def resolving(names: dict[str, list[str]]) -> Callable[..., list[Any]]:
    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        # addresses are what they are, as they are for the real one
        found = names.get(host, [host])
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    return getaddrinfo


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_five_are_followed(self, web: WebServer, status: int) -> None:
        for number in range(5):
            web.routes[f"/{number}"] = redirect(f"/{number + 1}", status)
        web.routes["/5"] = whole(BODY)
        assert get(f"{web.url}/0") == BODY

    def test_not_six_and_not_in_circles(self, web: WebServer) -> None:
        web.routes["/"] = redirect("/")
        assert refused(f"{web.url}/") == "url_refused"
        assert len(web.asked) == 6

    def test_a_password_is_for_its_host_alone(self, web: WebServer) -> None:
        with serving() as other:
            other.routes["/there"] = whole(BODY)
            web.routes["/here"] = redirect("/again")
            web.routes["/again"] = redirect(f"{other.url}/there")
            assert get(f"{web.url.replace('//', '//user:secret@')}/here") == BODY
            assert ["Authorization" in headers for _, headers in web.asked] == [True, True]
            assert "Authorization" not in other.asked[0][1]


class TestBrokenConnections:
    def test_are_resumed_where_they_broke(self, web: WebServer) -> None:
        web.routes["/"] = breaking(BODY, after=100_000)
        assert get(f"{web.url}/") == BODY
        ranges = [(headers.get("Range"), headers.get("If-Range")) for _, headers in web.asked]
        assert ranges[:3] == [(None, None), ("bytes=100000-", '"v1"'), ("bytes=200000-", '"v1"')]

    @pytest.mark.parametrize("etag", [None, 'W/"weak"'])
    def test_not_without_knowing_that_it_is_the_same_file(self, web: WebServer, etag: str | None) -> None:
        web.routes["/"] = breaking(BODY, after=100_000, etag=etag)
        with pytest.raises(Unreachable):
            get(f"{web.url}/")
        assert len(web.asked) == 1

    def test_not_if_the_file_has_changed(self, web: WebServer) -> None:
        answers = [breaking(BODY, after=100_000), breaking(BODY, after=100_000, etag='"v2"')]
        web.routes["/"] = lambda handler: answers.pop(0)(handler)
        with pytest.raises(Unreachable, match="changed"):
            get(f"{web.url}/")

    def test_not_if_the_server_begins_again(self, web: WebServer) -> None:
        web.routes["/"] = breaking(BODY, after=100_000, honest=False)
        with pytest.raises(Unreachable, match="cannot be resumed"):
            get(f"{web.url}/")

    def test_not_for_ever(self, web: WebServer) -> None:
        answers = [breaking(BODY, after=1000)]
        web.routes["/"] = lambda handler: (answers.pop() if answers else breaking(BODY, after=0))(handler)
        with pytest.raises(Unreachable):
            get(f"{web.url}/")
        assert len(web.asked) == 1 + fetching.MAX_RESUMPTIONS


class TestLimits:
    def test_a_declared_length_is_refused_before_the_body(self, web: WebServer) -> None:
        web.routes["/"] = lambda handler: handler.answer(200, b"x", Content_Length="5000000000")
        assert refused(f"{web.url}/") == "url_too_large"

    def test_a_body_without_a_length(self, web: WebServer) -> None:
        def endless(handler: Any) -> None:
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            while True:
                handler.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")

        web.routes["/"] = endless
        assert refused(f"{web.url}/") == "url_too_large"

    def test_a_length_that_is_too_small_cuts_the_body(self, web: WebServer) -> None:
        web.routes["/"] = lambda handler: handler.answer(200, BODY, Content_Length="1000")
        assert get(f"{web.url}/") == BODY[:1000]

    def test_what_is_compressed_is_not_unpacked(self, web: WebServer) -> None:
        web.routes["/"] = lambda handler: handler.answer(200, b"\x1f\x8b", Content_Encoding="gzip")
        assert refused(f"{web.url}/") == "url_refused"

    def test_a_trickle(self, web: WebServer) -> None:
        web.routes["/"] = trickling(0.02)
        assert refused(f"{web.url}/", stall_seconds=0.3) == "url_too_slow"

    def test_a_head_that_never_ends(self, web: WebServer) -> None:
        """Each byte of it comes in time: only the whole has a limit."""
        web.routes["/"] = trickling(0.02, head=True)
        began = time.monotonic()
        assert refused(f"{web.url}/", fetch_seconds=0.5) == "url_too_slow"
        assert time.monotonic() - began < 5

    def test_a_server_that_says_nothing(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unreachable):
            get(f"http://127.0.0.1:{silent.getsockname()[1]}/", stall_seconds=0.2)

    def test_nobody_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
        with pytest.raises(Unreachable):
            get(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    ("status", "code"), [(401, "url_refused"), (403, "url_refused"), (404, "url_not_found"), (204, "url_refused")]
)
def test_refusals_are_final(web: WebServer, status: int, code: str) -> None:
    web.routes["/"] = lambda handler: handler.answer(status)
    assert refused(f"{web.url}/") == code


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_may_pass_is_tried_again(web: WebServer, status: int) -> None:
    web.routes["/"] = lambda handler: handler.answer(status)
    with pytest.raises(Unreachable):
        get(f"{web.url}/")


def test_no_secret_is_logged(web: WebServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    web.routes["/"] = whole(BODY)
    get(f"{web.url.replace('//', '//user:hunter2@')}/?signature=hunter3")
    web.routes["/"] = lambda handler: handler.answer(500)
    with pytest.raises(Unreachable) as caught:
        get(f"{web.url.replace('//', '//user:hunter2@')}/?signature=hunter3")
    assert "hunter" not in caplog.text + str(caught.value)
