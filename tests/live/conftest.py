from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from api.__main__ import listen
from cli.stack.process import HOST, free_port
from db.settings import Settings
from live.__main__ import configuration
from live.app import create_app
from live.assembly import load_stages
from live.stages import Stages
from tests.conftest import environment_of
from tests.live.fakes import fake_stages
from tests.waiting import LIMIT_SECONDS, until

ROOT = Path(__file__).parents[2]


@contextmanager
def serving(settings: Settings, stages: Stages | None = None, port: int | None = None) -> Iterator[str]:
    """The URL of a real server of live sessions; its engines are real too unless ``stages`` are given."""
    port = port or free_port()
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


@contextmanager
def gateway(settings: Settings, port: int | None = None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A gateway in a process of its own, whose ASR is fake, and its URL."""
    port = port or free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.live.gateway", str(port)],
        cwd=ROOT,
        env={**os.environ, **environment_of(settings)},
    )
    try:
        ready = f"http://{HOST}:{port}/readyz"
        until(lambda: httpx.get(ready).status_code == 200, "the gateway serves", despite=(httpx.HTTPError,))
        yield f"ws://{HOST}:{port}", process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def live_url(settings: Settings) -> Iterator[str]:
    """A server whose ASR is fake: it says what it hears by the clock."""
    with serving(settings, fake_stages(settings)) as url:
        yield url
