"""Limits of uploads: size, rate, stalls, disk space."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator

from api.problems import Problem
from db.settings import MIB, Settings


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


def too_large(limit: int) -> Problem:
    return Problem(
        413,
        "file_too_large",
        "File too large",
        f"The file is larger than this server's limit of {limit / MIB:,.0f} MiB ({limit} bytes); "
        "send a compressed format, or split the recording.",
    )
