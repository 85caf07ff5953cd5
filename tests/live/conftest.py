from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from api.__main__ import listen
from cli.stack.process import HOST, free_port
from db.settings import Settings
from live.__main__ import configuration
from live.app import create_app
from live.assembly import load_stages
from live.stages import Stages
from tests.live.fakes import fake_stages
from tests.waiting import LIMIT_SECONDS, until


@contextmanager
def serving(settings: Settings, stages: Stages | None = None) -> Iterator[str]:
    """The URL of a real server of live sessions; its engines are real too unless ``stages`` are given."""
    port = free_port()
    app = create_app(settings, load=lambda _: stages or load_stages(settings))
    server = uvicorn.Server(configuration(app, settings))
    listening = listen(HOST, port, settings.stall_seconds)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield f"ws://{HOST}:{port}"
    finally:
        server.should_exit = True
        thread.join(LIMIT_SECONDS)


@pytest.fixture
def live_url(settings: Settings) -> Iterator[str]:
    """A server whose ASR is fake: it says what it hears by the clock."""
    with serving(settings, fake_stages(settings)) as url:
        yield url
