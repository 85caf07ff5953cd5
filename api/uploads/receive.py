"""Receiving an upload: limits, the body streamed to S3, then the rows. A failed one leaves nothing behind."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from anyio import CancelScope, to_thread
from fastapi import Request

from api.dependencies import Services
from api.problems import Problem
from api.uploads.limits import check_disk, check_queue, paced, too_large
from api.uploads.multipart import FIELD_BYTES, Form, FormReader, flush
from db import jobs
from db.access import quotas
from db.objects.storage import job_prefix
from db.objects.writer import ObjectWriter

FORM_OVERHEAD = 1024 * 1024
"""What a body may hold beside the file: boundaries and fields."""

Created = TypeVar("Created")
Check = Callable[[Form], object]
CreateRows = Callable[[Form, ObjectWriter, uuid.UUID], Created]
"""Makes rows of a form whose file is written but not closed; runs in a thread."""


def form_body(required: Sequence[str], **fields: Any) -> dict[str, Any]:
    """The OpenAPI description of a form whose ``file`` is streamed."""
    schema = {
        "type": "object",
        "required": [*required],
        "properties": {"file": {"type": "string", "format": "binary"}, **fields},
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


async def receive_upload(
    request: Request,
    services: Services,
    tenant: str,
    create_rows: CreateRows[Created],
    check: Check,
    *,
    field_bytes: Callable[[str], int] = lambda name: FIELD_BYTES,
    patience: float = 0.0,
) -> Created:
    """Store the part ``file`` as the source of a new job, whose id ``create_rows`` is given. Raises Problem.

    ``check`` validates the fields that come before the file, so that a mistake is reported before the upload, and
    ``field_bytes`` the name of each. ``patience`` is how many seconds to wait for a free slot.
    """
    if int(request.headers.get("content-length") or 0) > services.settings.max_upload_bytes + FORM_OVERHEAD:
        raise too_large(services.settings.max_upload_bytes)
    size = max(int(request.headers.get("content-length") or 0) - FORM_OVERHEAD, 0)
    repeated = request.headers.get("idempotency-key")
    async with services.uploads.slot(tenant, services.directory.limits(tenant).uploads_at_once, patience):
        await to_thread.run_sync(check_capacity, services, tenant, size, repeated)
        return await _receive(request, services, create_rows, check, field_bytes)


async def _receive(
    request: Request,
    services: Services,
    create_rows: CreateRows[Created],
    check: Check,
    field_bytes: Callable[[str], int],
) -> Created:
    job_id = uuid.uuid4()
    writer = services.storage.writer(f"{job_prefix(job_id)}source", "application/octet-stream")
    content_type = request.headers.get("content-type", "")
    reader = FormReader(content_type, writer.accept, services.settings.max_upload_bytes, check, field_bytes)
    try:
        body = paced(request.stream(), services.settings.stall_seconds, services.settings.min_upload_rate)
        form = await reader.read(body, partial(flush, writer))
        if form.filename is None:
            raise Problem(
                422, "file_missing", "File missing", "Send the recording as the part `file` of the form."
            )
        if form.received == 0:
            raise Problem(422, "file_empty", "File empty", f"The file {form.filename!r} holds no bytes.")
        return await to_thread.run_sync(create_rows, form, writer, job_id)
    except BaseException:
        # whether the body was bad or the client went away
        with CancelScope(shield=True):
            await to_thread.run_sync(writer.abort)
        raise


def check_capacity(services: Services, tenant: str, size: int, idempotency_key: str | None) -> None:
    """Raises Problem while the queue or the disk is full, QuotaExceeded while the tenant has no room."""
    check_disk(services.settings)
    with services.across_tenants() as session:
        check_queue(session, services.settings, tenant, shared=services.directory.shared)
    with services.for_tenant(tenant)() as session:
        # what was taken before is answered for, not taken again
        if idempotency_key is None or jobs.by_idempotency_key(session, tenant, idempotency_key) is None:
            quotas.check_upload(session, services.settings, tenant, size)
