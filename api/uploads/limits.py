"""Limits of uploads: size, rate, stalls, disk space, what waits already."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator

from sqlalchemy.orm import Session

from api.problems import Problem
from db.queue import backlog
from db.settings import MIB, Settings
from db.telemetry import metrics

RETRY_AFTER = 60
"""Seconds after which an upload refused for a full queue may be tried again."""


def check_disk(settings: Settings) -> None:
    """Raises Problem while the disk of a local stack is nearly full."""
    if not (settings.data_dir / "s3").is_dir():
        return
    free = shutil.disk_usage(settings.data_dir).free
    if free < settings.min_free_bytes:
        raise Problem(
            507,
            "disk_full",
            "Disk full",
            f"The server's disk has {free // MIB} MiB left, less than the {settings.min_free_bytes // MIB} MiB "
            "that it keeps free. Delete jobs, or make room.",
        )


def check_queue(session: Session, settings: Settings, tenant: str, *, shared: bool) -> None:
    """Raises Problem while the queue is full.

    ``session`` sees all tenants; ``shared``: others than this one use the server too.
    """
    limit, share = settings.max_waiting_steps, settings.tenant_waiting_steps(shared=shared)
    if backlog.count_ready(session, limit) >= limit:
        raise _queue_full(f"More than {limit} steps are waiting already. Try again later, or add workers.")
    if share < limit and backlog.count_ready(session, share, tenant) >= share:
        raise _queue_full(f"More than {share} steps of this tenant are waiting already. Try again later.")


async def paced(body: AsyncIterator[bytes], stall_seconds: float, min_rate: int) -> AsyncIterator[bytes]:
    """The body. Raises Problem if it stalls, or arrives below the minimum rate."""
    received = 0
    started = time.monotonic()
    while True:
        try:
            async with asyncio.timeout(stall_seconds):
                data = await anext(body)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Problem(
                408, "upload_stalled", "Upload stalled", f"Nothing came for {stall_seconds:g} s. Send it again."
            ) from None
        received += len(data)
        metrics.upload_bytes.inc(len(data))
        elapsed = time.monotonic() - started
        if elapsed > stall_seconds and received < min_rate * elapsed:
            raise Problem(
                408,
                "upload_too_slow",
                "Upload too slow",
                f"{received / elapsed:.0f} bytes a second came; this server wants {min_rate} on the whole. Send "
                "it again over a better line, or as a smaller file.",
            )
        yield data


def _queue_full(detail: str) -> Problem:
    return Problem(429, "queue_full", "Queue full", detail, headers={"Retry-After": str(RETRY_AFTER)})


def too_large(limit: int) -> Problem:
    return Problem(
        413,
        "file_too_large",
        "File too large",
        f"The file is larger than this server's limit of {limit / MIB:,.0f} MiB ({limit} bytes); "
        "send a compressed format, or split the recording.",
    )
