"""Taking a file in: limits first, then the body as it comes, then the rows; nothing half-written stays behind."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from anyio import CancelScope, WouldBlock, to_thread
from fastapi import Request

from api.dependencies import Connections
from api.problems import Problem
from api.uploads.multipart import (
    Form,
    FormReader,
    check_disk,
    flowing,
    flush,
    too_large,
    too_many_uploads,
)
from db.object_writer import ObjectWriter
from db.queue import backlog
from db.storage import job_prefix

RETRY_AFTER = 60
"""Seconds after which an upload refused for a full queue may be tried again."""

FORM_OVERHEAD = 1024 * 1024
"""What a body may hold beside the file: boundaries and fields."""

Made = TypeVar("Made")
Keep = Callable[[Form, ObjectWriter, uuid.UUID], Made]
"""Makes rows of a form whose file is written but not closed; runs in a thread."""


def form_body(required: Sequence[str], **fields: Any) -> dict[str, Any]:
    """What OpenAPI is to say of a form with a ``file`` that is read as it comes."""
    schema = {
        "type": "object",
        "required": [*required],
        "properties": {"file": {"type": "string", "format": "binary"}, **fields},
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


async def take(request: Request, held: Connections, keep: Keep[Made]) -> Made:
    """Store the part ``file`` as the source of a new job, whose id ``keep`` is given. Raises Problem."""
    if int(request.headers.get("content-length") or 0) > held.settings.max_upload_bytes + FORM_OVERHEAD:
        raise too_large(held.settings.max_upload_bytes)
    await to_thread.run_sync(_check_room, held)
    try:
        held.uploads.acquire_nowait()
    except WouldBlock:
        raise too_many_uploads(held.settings.max_uploads) from None
    try:
        return await _receive(request, held, keep)
    finally:
        held.uploads.release()


async def _receive(request: Request, held: Connections, keep: Keep[Made]) -> Made:
    job_id = uuid.uuid4()
    writer = held.storage.writer(f"{job_prefix(job_id)}source", "application/octet-stream")
    content_type = request.headers.get("content-type", "")
    reader = FormReader(content_type, writer.accept, held.settings.max_upload_bytes)
    try:
        body = flowing(request.stream(), held.settings.stall_seconds)
        form = await reader.read(body, partial(flush, writer))
        if form.filename is None:
            raise Problem(
                422, "file_missing", "File missing", "Send the recording as the part `file` of the form."
            )
        if form.received == 0:
            raise Problem(422, "file_empty", "File empty", f"The file {form.filename!r} holds no bytes.")
        return await to_thread.run_sync(keep, form, writer, job_id)
    except BaseException:
        # whether the body was bad or the client went away
        with CancelScope(shield=True):
            await to_thread.run_sync(writer.abort)
        raise


def _check_room(held: Connections) -> None:
    """Raises Problem while so much is waiting that a new job would only wait too, or the disk is full."""
    check_disk(held.settings)
    limit = held.settings.max_waiting_steps
    with held.sessions() as session:
        if backlog.count_ready(session, limit) < limit:
            return
    raise Problem(
        429,
        "queue_full",
        "Queue full",
        f"More than {limit} steps are waiting already. Try again later, or add workers.",
        headers={"Retry-After": str(RETRY_AFTER)},
    )
