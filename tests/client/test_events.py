"""Event streams against a server of our own."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Callable, Iterator

import pytest

from longhand import AsyncClient, Client, Event

PARTS = [
    b'id: 1\nevent: job.started\ndata: {"seq": 1}\n\n: heartbeat\n\n: heartbeat\n\n',
    b'id: 2\nevent: segment.final\ndata: {"text": "one\xe2\x80\xa8line"}\n\n',
    b': heartbeat\n\nid: 3\nevent: job.completed\ndata: {"seq": 3}\n\n',
]


@pytest.fixture
def server() -> Iterator[tuple[str, list[str | None]]]:
    """Every connection gets the next part and is closed behind it."""
    asked: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = PARTS[len(asked)]
            asked.append(self.headers.get("Last-Event-ID"))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", asked
    running.shutdown()
    running.server_close()


def read(url: str) -> list[Event]:
    return list(Client(url).jobs.events("x"))


def read_async(url: str) -> list[Event]:
    async def collect() -> list[Event]:
        async with AsyncClient(url) as client:
            return [event async for event in client.jobs.events("x")]

    return asyncio.run(collect())


@pytest.mark.parametrize("read", [read, read_async])
def test_heartbeats_are_no_events_and_a_broken_stream_goes_on(
    server: tuple[str, list[str | None]], read: Callable[[str], list[Event]]
) -> None:
    url, asked = server
    events = read(url)
    assert [(event.seq, event.type) for event in events] == [
        (1, "job.started"),
        (2, "segment.final"),
        (3, "job.completed"),
    ]
    assert events[1].data == {"text": "one\N{LINE SEPARATOR}line"}
    assert asked == ["0", "1", "2"]
