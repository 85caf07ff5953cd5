"""What checking an API key takes, alone and beside ten thousand bad keys a second."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from rich.table import Table

from api.access.authenticate import Authenticator
from api.access.caller import Caller
from api.access.directory import Contents, Directory, KnownKey
from api.access.signers import Signers
from api.problems import Problem
from db.models import Priority, Scope
from db.secrets import Secrets
from db.session import Sessions
from db.settings import Settings

KEYS = 10_000
CHECKS = 20_000
BAD_A_SECOND = 10_000
BURSTS_A_SECOND = 100


def measure() -> Table:
    authenticator, good = _authenticator()
    table = Table(title=f"checking a key among {KEYS:,}, microseconds; the process has no database to ask")
    for heading in ("beside", "bad keys refused a second", "median", "p99", "slowest"):
        table.add_column(heading)
    table.add_row("nothing", "0", *_latencies(authenticator, good))
    with _flood(authenticator) as refused:
        started = time.perf_counter()
        latencies = _latencies(authenticator, good)
        rate = refused[0] / (time.perf_counter() - started)
    table.add_row("bad keys", f"{rate:,.0f}", *latencies)
    return table


def _authenticator() -> tuple[Authenticator, str]:
    settings = Settings(api_keys={})
    directory = Directory(
        Sessions(), Signers(Secrets(settings)), settings
    )  # bound to no database: asking it would raise
    held = [f"lh_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}" for _ in range(KEYS)]
    known = {
        hashlib.sha256(key.encode()).digest(): KnownKey(
            uuid.uuid4(), "acme", "ci", key[:11], frozenset({Scope.JOBS_READ}), Priority.NORMAL, None
        )
        for key in held
    }
    directory._contents = Contents(
        KEYS,
        {digest: key.id for digest, key in known.items()},
        {key.id: key for key in known.values()},
        {},
        any_keys=True,
    )
    return Authenticator(settings, directory, may_be_open=False), held[KEYS // 2]


def _latencies(authenticator: Authenticator, key: str) -> list[str]:
    taken = []
    for _ in range(CHECKS):
        started = time.perf_counter()
        _finish(authenticator.caller(f"Bearer {key}", "192.0.2.1"))
        taken.append(time.perf_counter() - started)
        if len(taken) % 20 == 0:
            time.sleep(0.001)  # as requests come, one after another
    return [f"{1e6 * value:.1f}" for value in (np.median(taken), np.quantile(taken, 0.99), max(taken))]


def _finish(check: Coroutine[Any, Any, Caller]) -> None:
    """Run a check, which waits for nothing when it is of a key."""
    try:
        check.send(None)
    except StopIteration:
        return
    raise AssertionError("a check of a key had to wait")


@contextmanager
def _flood(authenticator: Authenticator) -> Iterator[list[int]]:
    """Bad keys at a steady rate from ten addresses, in a thread of its own; yields how many were refused."""
    refused, over = [0], threading.Event()

    def send() -> None:
        next_burst = time.perf_counter()
        while not over.is_set():
            for n in range(BAD_A_SECOND // BURSTS_A_SECOND):
                with suppress(Problem):
                    _finish(authenticator.caller(f"Bearer lh_00000000_{n}", f"198.51.100.{n % 10}"))
                refused[0] += 1
            next_burst += 1 / BURSTS_A_SECOND
            over.wait(max(0.0, next_burst - time.perf_counter()))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield refused
    finally:
        over.set()
        thread.join()
