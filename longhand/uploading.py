"""Recordings that are uploaded piece by piece, by tus 1.0: they go on where they broke off."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, cast

import httpx

from longhand.api import PASSING, Api, header, is_soon, path, pause
from longhand.errors import ApiError, LonghandError
from longhand.files import OnProgress, Piece, Source
from longhand.types import Upload

PIECE_BYTES = 64 * 1024 * 1024
"""Of one request, which proxies may limit."""

TIMEOUT = httpx.Timeout(600, connect=5)
"""The last piece is answered once the server has read all of them again, to check their hash."""

TUS = {"Tus-Resumable": "1.0.0"}


async def create(api: Api, source: Source, sha256: str | None) -> Upload | None:
    """Begin an upload; None where the server has none. One whose answer is lost expires."""
    body = {"bytes": source.size(), "filename": source.filename, "sha256": sha256, "parts": False}
    try:
        return cast(Upload, await api.json("POST", "/v1/uploads", json=body, again=True))
    except ApiError as error:
        if error.code in ("not_found", "method_not_allowed"):
            return None
        raise


async def send(api: Api, upload: Upload, source: Source, on_progress: OnProgress | None) -> Upload:
    """Send what the server does not have yet, and complete the upload. Raises like ``Api.send``."""
    size, offset = upload["bytes"], upload["received"]
    _check_size(source, size)
    where = path("uploads", upload["id"])
    attempt = 0
    while offset < size:
        try:
            offset, attempt = await _send_piece(api, where, source, offset, size, on_progress), 0
        except (httpx.TransportError, ApiError) as error:
            _check_size(source, size)
            attempt += 1
            if attempt > api.retries or not _resumable(error):
                raise (api.unreachable(error) if isinstance(error, httpx.TransportError) else error) from error
            await api.transport.sleep(pause(attempt, error.retry_after if isinstance(error, ApiError) else None))
            reached = int(header(await api.call("HEAD", where, headers=TUS), "Upload-Offset"))
            # what has arrived is progress, however little
            attempt = 0 if reached > offset else attempt
            offset = reached
    return cast(
        Upload, await api.json("POST", path("uploads", upload["id"], "complete"), again=True, timeout=TIMEOUT)
    )


def _check_size(source: Source, size: int) -> None:
    """Raises LonghandError."""
    if source.size() != size:
        raise LonghandError(f"{source.filename} has changed since its upload was begun: begin again.")


async def _send_piece(
    api: Api, where: str, source: Source, offset: int, size: int, on_progress: OnProgress | None
) -> int:
    """One request. Returns the new offset."""
    length = min(PIECE_BYTES, size - offset)

    def on_sent(position: int) -> None:
        if on_progress is not None:
            on_progress(position, size)

    headers: dict[str, Any] = TUS | {
        "Upload-Offset": str(offset),
        "Content-Type": "application/offset+octet-stream",
        "Content-Length": str(length),
    }
    request = api.request("PATCH", where, headers=headers, timeout=TIMEOUT)
    # httpx takes no body that serves both kinds of clients as an argument
    request.stream = Piece(source, offset, length, on_sent)
    async with api.streamed(request) as answer:
        return int(header(answer, "Upload-Offset"))


def _resumable(error: Exception) -> bool:
    """Whether the upload can go on from what the server has."""
    if not isinstance(error, ApiError):
        return True
    # 423: an earlier request is still taken in
    passing = (*PASSING, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.LOCKED)
    return is_soon(error) and (error.status in passing or error.code == "upload_offset")
