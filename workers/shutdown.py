"""How a worker ends: it claims no more, finishes what it holds, and hands back what it cannot finish in time."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

from db.queue import leases
from tasks.errors import INFRASTRUCTURE, LeaseLost
from tasks.queue import send_hints
from tasks.runtime import Runtime
from tasks.transaction import fenced

logger = logging.getLogger(__name__)

CELERY_SHUTDOWN_SECONDS = 3.0
"""Seconds that Celery may take to say goodbye once the work is done; with a broker that hangs it never would."""


def shut_down(reason: str) -> None:
    """End this process as a supervisor's SIGTERM would."""
    logger.critical("leaving: %s", reason)
    os.kill(os.getpid(), signal.SIGTERM)


def drain(runtime: Runtime) -> None:
    """Close for new work; a thread sees to the rest and ends the process."""
    runtime.claims.stop_acquiring()
    threading.Thread(target=_drain, args=(runtime,), name="drain", daemon=True).start()


def _drain(runtime: Runtime) -> None:
    deadline = time.monotonic() + runtime.settings.drain_seconds
    while list(runtime.claims) and time.monotonic() < deadline:
        time.sleep(0.1)
    requeue_held_steps(runtime)
    if time.monotonic() < deadline:
        time.sleep(CELERY_SHUTDOWN_SECONDS)
    os._exit(0)


def requeue_held_steps(runtime: Runtime) -> None:
    """Make every step that this process still holds ready for others. Their attempt does not count."""
    for claim in runtime.claims:
        try:
            with fenced(runtime, claim) as transaction:
                leases.requeue(transaction.session, claim, "its worker was told to stop")
        except (LeaseLost, *INFRASTRUCTURE) as error:
            logger.warning("could not hand back %s step %d: %s", claim.kind, claim.id, error)
        else:
            logger.info("handed back %s step %d", claim.kind, claim.id)
            send_hints([claim.kind])
