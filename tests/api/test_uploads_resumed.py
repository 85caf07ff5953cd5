"""Real tus clients whose uploads outlive what fails: a process of the API, storage, a connection."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from tusclient.client import TusClient
from tusclient.uploader.uploader import Uploader

from api.app import create_app
from cli.stack.process import free_port
from cli.stack.product import Api
from db import uploads
from db.objects.storage import Storage
from db.session import Sessions
from db.settings import MIB, Settings
from tests.api.conftest import serving
from tests.api.uploads import begin, id_of, offset, patch
from tests.conftest import Servers, environment_of
from tests.node import node
from tests.waiting import LIMIT_SECONDS, until

CHUNK_BYTES = 3 * MIB


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"diarize": False, "retry_seconds": 0.001})


@contextmanager
def running(settings: Settings, port: int) -> Iterator[Api]:
    """The API as a process of its own."""
    api = Api(environment_of(settings), None, port=port)
    api.start()
    try:
        yield api
    finally:
        api.stop()


def kill(api: Api) -> None:
    assert api.pid is not None
    os.kill(api.pid, signal.SIGKILL)
    until(lambda: not api.running, "the API is gone")


def uploader(base_url: str, data: bytes, **values: object) -> Uploader:
    """A client that goes on for as long as it takes."""
    patient = {"chunk_size": CHUNK_BYTES, "retries": 1000, "retry_delay": 0.1, "metadata": {"filename": "a.wav"}}
    return TusClient(f"{base_url}/v1/uploads").uploader(file_stream=io.BytesIO(data), **patient | values)


def url_of(client: Uploader) -> str:
    assert client.url is not None
    return client.url


def digest(settings: Settings, sessions: Sessions, url: str) -> str:
    """Of what counts of an upload."""
    with sessions() as session:
        pieces = uploads.parts(session, uuid.UUID(id_of(url)))
    found = hashlib.sha256()
    for block in uploads.read(Storage(settings), pieces):
        found.update(block)
    return found.hexdigest()


def test_an_upload_outlives_the_process_that_takes_it(settings: Settings, sessions: Sessions) -> None:
    data = os.urandom(40 * MIB)
    port = free_port()
    with running(settings, port) as api, ThreadPoolExecutor(1) as pool:
        client = uploader(api.url, data, metadata={"sha256": hashlib.sha256(data).hexdigest()})
        sending = pool.submit(client.upload)
        until(lambda: client.offset > len(data) // 4, "a part is there")
        kill(api)
        with running(settings, port) as second:
            assert not sending.done()
            sending.result(LIMIT_SECONDS)
            assert httpx.get(second.url + "/v1/uploads/" + id_of(url_of(client))).json()["status"] == "completed"
    assert digest(settings, sessions, url_of(client)) == hashlib.sha256(data).hexdigest()


def test_an_upload_outlives_its_client(settings: Settings, sessions: Sessions) -> None:
    data = os.urandom(10 * MIB)
    with serving(create_app(settings), settings) as api:
        first = uploader(str(api.base_url).rstrip("/"), data)
        first.upload(stop_at=4 * MIB)
        second = uploader(str(api.base_url).rstrip("/"), data, url=first.url)
        assert second.offset >= 4 * MIB
        second.upload()
    assert digest(settings, sessions, url_of(first)) == hashlib.sha256(data).hexdigest()


def test_an_upload_outlives_storage(settings: Settings, sessions: Sessions, servers: Servers) -> None:
    data = os.urandom(24 * MIB)
    with serving(create_app(settings), settings) as api, ThreadPoolExecutor(1) as pool:
        client = uploader(str(api.base_url).rstrip("/"), data)
        client.upload(stop_at=CHUNK_BYTES)
        servers.s3.stop()
        try:
            answer = patch(api, url_of(client), CHUNK_BYTES, b"x")
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
            assert offset(api, url_of(client)) == CHUNK_BYTES
            sending = pool.submit(client.upload)
        finally:
            servers.s3.start()
        sending.result(LIMIT_SECONDS)
    assert digest(settings, sessions, url_of(client)) == hashlib.sha256(data).hexdigest()


def test_processes_of_the_api_take_turns(settings: Settings, sessions: Sessions) -> None:
    """As behind a balancer: none knows more of an upload than another."""
    data = os.urandom(5 * 700_000)
    with serving(create_app(settings), settings) as one, serving(create_app(settings), settings) as other:
        url = begin(one, len(data))
        for number, start in enumerate(range(0, len(data), 700_000)):
            api = (one, other)[number % 2]
            assert offset(api, url) == start
            assert patch(api, url, start, data[start : start + 700_000]).status_code == 204
    assert digest(settings, sessions, url) == hashlib.sha256(data).hexdigest()


def test_checksums_of_a_client(settings: Settings, sessions: Sessions) -> None:
    data = os.urandom(5 * MIB)
    with serving(create_app(settings), settings) as api:
        client = uploader(str(api.base_url).rstrip("/"), data, upload_checksum=True)
        client.upload()
    assert digest(settings, sessions, url_of(client)) == hashlib.sha256(data).hexdigest()


def test_memory_does_not_grow_with_the_upload(settings: Settings) -> None:
    size = 120 * MIB

    def blocks() -> Iterator[bytes]:
        for number in range(size // MIB):
            yield bytes([number % 251]) * MIB

    with running(settings, free_port()) as api:
        process = psutil.Process(api.pid)
        with httpx.Client(base_url=api.url, timeout=LIMIT_SECONDS) as client:
            patch(client, begin(client, 9 * MIB), 0, bytes(9 * MIB))
            before = _peak_bytes(process)
            url = begin(client, size)
            assert patch(client, url, 0, blocks()).status_code == 204
        assert _peak_bytes(process) - before < 40 * MIB


def _peak_bytes(process: psutil.Process) -> int:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (peak,) = (int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return peak * 1024


@pytest.mark.parametrize(("parallel", "chunk"), [(1, 2 * MIB), (3, 0)])
def test_the_client_of_browsers(
    settings: Settings, sessions: Sessions, tmp_path: Path, parallel: int, chunk: int
) -> None:
    """In pieces, and in parallel; the API is killed amid it."""
    size = 30 * MIB
    data = os.urandom(size)
    file = tmp_path / "a.wav"
    file.write_bytes(data)
    port = free_port()
    with running(settings, port) as api:
        command = [*node("tus.cjs"), f"{api.url}/v1/uploads", str(file), str(parallel), str(chunk)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sending:
            assert sending.stdout is not None
            said = map(json.loads, sending.stdout)
            assert next(line for line in said if line.get("sent", size) > size // 4).get("error") is None
            kill(api)
            with running(settings, port):
                *_, last = said
    assert "url" in last, last
    assert digest(settings, sessions, last["url"]) == hashlib.sha256(data).hexdigest()
