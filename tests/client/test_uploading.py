"""Recordings that are uploaded piece by piece, over connections that break."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from longhand import (
    ApiError,
    AsyncClient,
    Client,
    InvalidRequest,
    LonghandError,
    NotFound,
    Unreachable,
    api,
    uploading,
)
from longhand.resources import jobs
from tests.api.conftest import client as client

CONTENT = bytes(range(251)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Breaking(httpx.HTTPTransport):
    """Breaks the first requests that carry a piece, each after some of its bytes."""

    def __init__(self, breaks: int) -> None:
        super().__init__()
        self.breaks, self.sent = breaks, 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "PATCH":
            request.stream = Counted(self, request.stream)  # type: ignore[arg-type]
        return super().handle_request(request)


class Counted(httpx.SyncByteStream):
    def __init__(self, transport: Breaking, body: httpx.SyncByteStream) -> None:
        self._transport, self._body = transport, body

    def __iter__(self) -> Iterator[bytes]:
        breaks = self._transport.breaks > 0
        for number, block in enumerate(self._body):
            if breaks and number == 1:
                self._transport.breaks -= 1
                raise httpx.WriteError("broken")
            self._transport.sent += len(block)
            yield block


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    file = tmp_path / "täglich.wav"
    file.write_bytes(CONTENT)
    return file


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MAX_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(uploading, "PIECE_BYTES", 600_000)


def test_a_large_recording_goes_on_where_it_broke(
    client: httpx.Client, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "RESUMABLE_BYTES", 1)
    transport = Breaking(breaks=6)
    progress: list[int] = []
    with Client(http=httpx.Client(base_url=client.base_url, transport=transport)) as ours:
        job = ours.jobs.submit(recording, on_progress=lambda sent, size: progress.append(sent))
        assert (job["audio"]["filename"], job["audio"]["bytes"]) == (recording.name, len(CONTENT))
        assert ours.uploads.get(job["id"])["status"] == "used"
    # each break costs no more than the block that was under way
    assert len(CONTENT) <= transport.sent <= len(CONTENT) + 7 * 256 * 1024
    assert progress[-1] == len(CONTENT)


def test_another_process_goes_on(client: httpx.Client, recording: Path) -> None:
    url = str(client.base_url)
    breaking = httpx.Client(base_url=url, transport=Breaking(breaks=100))
    with Client(http=breaking, retries=0) as first:
        upload = first.uploads.create(recording, sha256=DIGEST)
        with pytest.raises(Unreachable):
            first.uploads.send(upload["id"], recording)

    async def go_on() -> None:
        async with AsyncClient(url) as other:
            # what had arrived is stored once the server sees that the connection has ended
            begun = 0
            while not begun:
                begun = (await other.uploads.get(upload["id"]))["received"]
            assert begun < len(CONTENT)
            assert (await other.uploads.send(upload["id"], recording))["status"] == "completed"
            job = await other.jobs.submit_upload(upload["id"], {"language": "en"})
            assert job["id"] == upload["id"]
            assert (await other.uploads.send(upload["id"], recording))["status"] == "used"
            assert (await other.jobs.submit_upload(upload["id"], {"language": "en"}))["id"] == job["id"]

    asyncio.run(go_on())


def test_a_recording_that_changes_is_noticed(client: httpx.Client, recording: Path) -> None:
    with Client(str(client.base_url)) as ours:
        upload = ours.uploads.create(recording, sha256=DIGEST)
        recording.write_bytes(CONTENT[::-1])
        with pytest.raises(InvalidRequest) as refused:
            ours.uploads.send(upload["id"], recording)
        assert refused.value.code == "sha256_mismatch"
        other = ours.uploads.create(recording)
        recording.write_bytes(CONTENT[:9])
        with pytest.raises(LonghandError, match="changed"):
            ours.uploads.send(other["id"], recording)
        ours.uploads.delete(other["id"])
        with pytest.raises(NotFound):
            ours.uploads.get(other["id"])


def test_a_server_without_uploads_gets_a_form(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "RESUMABLE_BYTES", 1)
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if request.url.path == "/v1/uploads":
            problem = {"code": "not_found", "title": "Not found", "detail": "No."}
            return httpx.Response(404, json=problem)
        assert CONTENT in request.read()
        return httpx.Response(202, json={"id": "1"})

    http = httpx.Client(base_url="http://server", transport=httpx.MockTransport(answer))
    assert Client(http=http).jobs.submit(recording)["id"] == "1"
    assert asked == ["/v1/uploads", "/v1/jobs"]


@pytest.mark.parametrize(
    ("status", "code", "tried"),
    [(429, "rate", 1), (409, "upload_used", 1), (409, "upload_is_partial", 1), (423, "upload_locked", 3)],
)
def test_what_stays_refused_is_not_sent_again(recording: Path, status: int, code: str, tried: int) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        if request.method != "PATCH":
            upload = {"id": "1", "status": "receiving", "bytes": len(CONTENT), "received": 0}
            return httpx.Response(200, json=upload, headers={"Upload-Offset": "0"})
        headers = {"Retry-After": "100000"} if status == 429 else {}
        return httpx.Response(status, headers=headers, json={"code": code, "title": "T", "detail": "D."})

    http = httpx.Client(base_url="http://server", transport=httpx.MockTransport(answer))
    with pytest.raises(ApiError):
        Client(http=http, retries=2).uploads.send("1", recording)
    assert asked.count("PATCH") == tried


def test_a_recording_that_shrinks_under_way_is_noticed(recording: Path) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        if request.method == "PATCH":
            recording.write_bytes(CONTENT[:9])
            raise httpx.LocalProtocolError("Too little data for declared Content-Length")
        upload = {"id": "1", "status": "receiving", "bytes": len(CONTENT), "received": 0}
        return httpx.Response(200, json=upload)

    http = httpx.Client(base_url="http://server", transport=httpx.MockTransport(answer))
    with pytest.raises(LonghandError, match="changed"):
        Client(http=http).uploads.send("1", recording)
    assert asked == ["GET", "PATCH"]


def test_a_download_goes_on_as_long_as_something_comes(tmp_path: Path) -> None:
    class OneByte(httpx.SyncByteStream):
        def __init__(self, offset: int) -> None:
            self._offset = offset

        def __iter__(self) -> Iterator[bytes]:
            yield CONTENT[self._offset : self._offset + 1]
            if self._offset < 5:
                raise httpx.ReadError("broken")

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "server":
            return httpx.Response(307, headers={"Location": "http://storage/recording"})
        offset = int(request.headers.get("Range", "bytes=0-")[6:-1])
        return httpx.Response(206, headers={"Content-Range": f"bytes {offset}-5/6"}, stream=OneByte(offset))

    http = httpx.Client(base_url="http://server", transport=httpx.MockTransport(answer))
    file = Client(http=http, retries=1).jobs.download_audio("1", tmp_path / "recording")
    assert file.read_bytes() == CONTENT[:6]
