from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from api.__main__ import configuration, listen
from api.app import create_app
from cli.stack.process import HOST, free_port
from db.settings import Settings


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    """A client of a real HTTP server over the test's own database, bucket and Redis; no workers run."""
    port = free_port()
    server = uvicorn.Server(configuration(create_app(settings)))
    listening = listen(HOST, port, settings.stall_seconds)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    with httpx.Client(base_url=f"http://{HOST}:{port}", timeout=30) as opened:
        yield opened
    server.should_exit = True
    thread.join(10)
