"""A server whose streams of events break off."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

PARTS = [
    b'id: 1\nevent: job.started\ndata: {"seq": 1}\n\n: heartbeat\n\n: heartbeat\n\n',
    b'id: 2\nevent: segment.final\ndata: {"text": "one\xe2\x80\xa8line"}\n\n',
    b': heartbeat\n\nid: 3\nevent: job.completed\ndata: {"seq": 3}\n\n',
]


@pytest.fixture
def broken_streams() -> Iterator[tuple[str, list[str | None]]]:
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
