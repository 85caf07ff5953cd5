"""Shutdown of a worker: it stops claiming, finishes its steps, and requeues those that take too long.

A delivery under way is waited for, and not handed back: the lease of one that takes too long runs out.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from contextlib import suppress

from redis.exceptions import RedisError

from db.queue import leases
from db.telemetry.process import flush_traces
from db.webhooks.outbox import DELIVER
from tasks.errors import INFRASTRUCTURE, LeaseLost
from tasks.queue import send_hints
from tasks.runtime import Runtime
from tasks.slots import SLOTS
from tasks.transaction import fenced

logger = logging.getLogger(__name__)

CELERY_SHUTDOWN_SECONDS = 3.0
"""Celery's time to disconnect once the work is done. With a broker that hangs it would take for ever."""


def shut_down(reason: str) -> None:
    """End this process as a SIGTERM of its supervisor would."""
    logger.critical("shutting down: %s", reason)
    os.kill(os.getpid(), signal.SIGTERM)


def drain(runtime: Runtime) -> None:
    """Stop claiming. A thread waits for the held steps and ends the process."""
    runtime.claims.stop_acquiring()
    with suppress(RedisError):
        runtime.bus.tell_absence(runtime.worker)
    threading.Thread(target=_drain_and_exit, args=(runtime,), name="drain", daemon=True).start()


def _drain_and_exit(runtime: Runtime) -> None:
    deadline = time.monotonic() + runtime.settings.drain_seconds
    while (list(runtime.claims) or SLOTS[DELIVER].busy) and time.monotonic() < deadline:
        time.sleep(0.1)
    requeue_held_steps(runtime)
    if time.monotonic() < deadline:
        time.sleep(CELERY_SHUTDOWN_SECONDS)
    flush_traces()
    os._exit(0)


def requeue_held_steps(runtime: Runtime) -> None:
    """Requeue every step that this process still holds. Its attempt does not count."""
    for claim in runtime.claims:
        try:
            with fenced(runtime, claim) as transaction:
                leases.requeue(transaction.session, claim, "its worker was told to stop")
        except (LeaseLost, *INFRASTRUCTURE) as error:
            logger.warning("could not requeue %s step %d: %s", claim.kind, claim.id, error)
        else:
            logger.info("requeued %s step %d", claim.kind, claim.id)
            send_hints([claim.kind])
