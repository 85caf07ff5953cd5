"""Files behind short-lived URLs of storage, resumed where a connection broke."""

from __future__ import annotations

import os
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

import httpx

from longhand.api import Api, header, pause
from longhand.errors import ApiError, Unreachable


async def download(api: Api, url: str, target: str | os.PathLike[str]) -> Path:
    """Write what ``url`` of the API redirects to to a file, whole or not at all. Raises like ``Api.send``."""
    file = Path(target)
    part = file.with_name(f".{file.name}.part")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with part.open("wb") as output:
            await _fetch(api, url, output)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return file


async def _fetch(api: Api, url: str, output: BinaryIO) -> None:
    attempt = reached = 0
    while True:
        attempt += 1
        try:
            # asked for anew each time: it may have expired
            return await _fetch_rest(api, header(await api.call("GET", url, redirect=True), "Location"), output)
        except httpx.TransportError as error:
            if attempt > api.retries:
                raise Unreachable(f"Storage cannot be reached: {error}.") from error
        except ApiError as error:
            if attempt > api.retries or error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
        # what has arrived is progress, however little
        if output.tell() > reached:
            attempt, reached = 0, output.tell()
        await api.transport.sleep(pause(attempt))


async def _fetch_rest(api: Api, address: str, output: BinaryIO) -> None:
    """What of the file is not written yet. Raises ApiError and httpx.TransportError."""
    begun = output.tell()
    headers = {"Range": f"bytes={begun}-"} if begun else {}
    # the address carries its own signature: our key is for the API alone
    request = api.transport.http.build_request("GET", address, headers=headers)
    async with api.streamed(request) as answer:
        # some servers give a part with status 200
        if begun and "Content-Range" not in answer.headers:
            output.seek(0)
            output.truncate()
        async for block in api.transport.blocks(answer):
            output.write(block)
