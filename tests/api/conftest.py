from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from api.__main__ import configuration, listen
from api.app import create_app
from cli.stack.process import HOST, free_port
from db.settings import Settings
from tests.waiting import LIMIT_SECONDS, until


@contextmanager
def serving(app: FastAPI, settings: Settings) -> Iterator[httpx.Client]:
    """A client of a real HTTP server; no workers run."""
    port = free_port()
    server = uvicorn.Server(configuration(app))
    listening = listen(HOST, port, settings.stall_seconds)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        with httpx.Client(base_url=f"http://{HOST}:{port}", timeout=LIMIT_SECONDS) as opened:
            yield opened
    finally:
        server.should_exit = True
        thread.join(LIMIT_SECONDS)


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    """A client of a server over the test's own database, bucket and Redis."""
    with serving(create_app(settings), settings) as opened:
        yield opened
