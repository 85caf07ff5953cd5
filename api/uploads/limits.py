"""What an upload may not exceed: size, silence, how many at once, room on the disk."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator

from api.problems import Problem
from db.settings import MIB, Settings


def too_many_uploads(limit: int) -> Problem:
    return Problem(
        429,
        "too_many_uploads",
        "Too many uploads",
        f"This server takes {limit} uploads at once. Try again shortly.",
        headers={"Retry-After": "5"},
    )


def check_disk(settings: Settings) -> None:
    """Raises Problem while the disk that a local stack keeps its data on is nearly full."""
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


async def with_stall_timeout(body: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    """The body, as long as something comes at least every so many seconds. Raises Problem."""
    while True:
        try:
            async with asyncio.timeout(seconds):
                data = await anext(body)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Problem(
                408, "upload_stalled", "Upload stalled", f"Nothing came for {seconds:g} s. Send it again."
            ) from None
        yield data


def too_large(limit: int) -> Problem:
    return Problem(
        413,
        "file_too_large",
        "File too large",
        f"The file is larger than this server's limit of {limit / MIB:,.0f} MiB ({limit} bytes); "
        "send a compressed format, or split the recording.",
    )
