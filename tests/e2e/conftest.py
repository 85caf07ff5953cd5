from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from cli.stack.process import HOST, free_port, port_taken
from cli.stack.stack import PORTS, WORKERS, Plan, Stack, running_stack
from longhand import Client
from tests.conftest import MODELS
from tests.waiting import until

# Leases and healing in seconds, so that a killed worker is noticed soon.
SHORT_INTERVALS = {
    "LONGHAND_MODELS_DIR": str(MODELS),
    "LONGHAND_LEASE_SECONDS": "4",
    "LONGHAND_LEASE_RENEW_SECONDS": "1",
    "LONGHAND_HEAL_SECONDS": "1",
    "LONGHAND_RETRY_SECONDS": "0.1",
    "LONGHAND_WEBHOOK_PRIVATE": '["127.0.0.0/8"]',
}


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory, metrics_port: int) -> Iterator[Stack]:
    """The whole product as `longhand up` runs it, supervised, on free ports."""
    os.environ.update(SHORT_INTERVALS | {"LONGHAND_METRICS_PORT": str(metrics_port)})
    log_lines: list[str] = []
    plan = Plan(tmp_path_factory.mktemp("stack"), ports=dict.fromkeys(PORTS, 0))
    with running_stack(plan, log_lines.append) as started:
        # other stacks would want the same ports
        del os.environ["LONGHAND_METRICS_PORT"]
        watching = threading.Thread(target=started.supervisor.watch, daemon=True)
        watching.start()
        yield started
        started.supervisor.finish()
        watching.join()
    for name in SHORT_INTERVALS:
        del os.environ[name]


@pytest.fixture(scope="package")
def metrics_port() -> int:
    """The first of some that follow on each other and are free: one for each worker."""

    def found() -> int | None:
        first = free_port()
        return first if not any(port_taken(first + place, HOST) for place in range(1, len(WORKERS))) else None

    return until(found)


@pytest.fixture
def api(stack: Stack) -> Client:
    return Client(stack.api_url)
