"""What the server refuses or cuts off to keep its own bounds."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from api.__main__ import listen
from db.events.bus import Bus
from db.models import EventType, JobStatus
from db.objects.storage import Storage
from db.queue.transaction import job_transaction
from db.session import Sessions
from db.settings import Settings
from tests.api.test_jobs import problem, upload
from tests.api.test_stream import numbers
from tests.jobs import make_job
from tests.waiting import LIMIT_SECONDS, until


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"stall_seconds": 1.0, "max_uploads": 2})


def connect(client: httpx.Client, receive_buffer: int | None = None) -> socket.socket:
    made = socket.socket()
    if receive_buffer:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    url = urlsplit(str(client.base_url))
    made.connect((url.hostname, url.port))
    made.settimeout(LIMIT_SECONDS)
    return made


def test_the_head_of_an_answer_does_not_hold_up_its_body() -> None:
    """Accepted sockets have what the listening one has."""
    with listen("127.0.0.1", 0, 1.0) as listening:
        assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_client_that_is_gone_without_a_word_is_noticed() -> None:
    with listen("127.0.0.1", 0, 1.5) as listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 2


HEAD = (
    b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b"Content-Length: 100000\r\n\r\n--b\r\nContent-Disposition: form-data; name=file; filename=x\r\n\r\nsound"
)


def test_an_upload_that_stalls_is_cut_off_and_leaves_nothing(client: httpx.Client, settings: Settings) -> None:
    with connect(client) as stalled:
        stalled.sendall(HEAD)
        answer = stalled.recv(4096).decode()
    assert answer.startswith("HTTP/1.1 408")
    assert list(Storage(settings).list("")) == []


def answer(connection: socket.socket) -> str:
    """A whole one: its head may come before its body."""
    received = b""
    while not received.endswith(b"}"):
        data = connection.recv(4096)
        assert data, received
        received += data
    return received.decode()


def test_too_many_uploads_at_once(client: httpx.Client) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(client)) for _ in range(3)]
        for connection in connections:
            connection.sendall(HEAD)
        answers = sorted(map(answer, connections))
    assert [answer.split()[1] for answer in answers] == ["408", "408", "429"]
    assert "too_many_uploads" in answers[2]
    assert "retry-after: 5" in answers[2]
    assert upload(client).status_code == 202


def test_a_full_disk(client: httpx.Client, settings: Settings) -> None:
    (settings.data_dir / "s3").mkdir()
    settings.min_free_bytes = 10**18
    assert problem(upload(client))["code"] == "disk_full"
    settings.min_free_bytes = 0
    assert upload(client).status_code == 202


def test_long_headers_are_refused(client: httpx.Client) -> None:
    answer = client.get("/healthz", headers={"X-Long": "x" * 40_000})
    assert (answer.status_code, problem(answer)["code"]) == (431, "headers_too_large")


def test_many_streams_that_open_at_once(client: httpx.Client, sessions: Sessions) -> None:
    """Many more than there are threads and connections: none may hold what the next one waits for."""
    job_id = make_job(sessions)
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(client)) for _ in range(120)]
        for connection in connections:
            connection.sendall(f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        for connection in connections:
            received = b""
            while b"id: 1\n" not in received:
                data = connection.recv(4096)
                assert data, received
                received += data
            assert received.startswith(b"HTTP/1.1 200")


def test_a_stalled_reader_is_cut_off_and_misses_nothing(
    client: httpx.Client, sessions: Sessions, settings: Settings
) -> None:
    job_id, bus = make_job(sessions), Bus(settings)
    with connect(client, receive_buffer=4096) as stalled:
        stalled.sendall(f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        # much more than the buffers on the way hold
        with job_transaction(sessions, job_id) as tx:
            for _ in range(400):
                tx.emit(EventType.JOB_PROGRESS, {"padding": "x" * 20_000})
        bus.publish(tx.events)
        until(lambda: not _served(stalled), "the server gives a stalled reader up")
        seen = _drain(stalled)
    assert seen < 401
    with job_transaction(sessions, job_id) as tx:
        tx.job.status = JobStatus.CANCELLED
        tx.emit(EventType.JOB_CANCELLED, {})
    assert list(numbers(client, job_id, last=str(seen))) == list(range(seen + 1, 403))


def _served(connection: socket.socket) -> bool:
    """Whether the server, a thread of this process, still holds its end."""
    port = connection.getsockname()[1]
    return any(c.raddr and c.raddr.port == port for c in psutil.Process().net_connections("tcp") if c.fd != -1)


def _drain(stalled: socket.socket) -> int:
    """Read what was still on its way, up to the end of the connection; the last whole event's number."""
    received = bytearray()
    # the kernel may have cut the connection off before
    with suppress(ConnectionResetError):
        while data := stalled.recv(65536):
            received += data
    whole = received[: received.rfind(b"\n\n")]
    return max((int(line[4:]) for line in whole.split(b"\n") if line.startswith(b"id: ")), default=0)
