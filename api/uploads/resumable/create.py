"""Beginning an upload."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from starlette.datastructures import Headers

from api.dependencies import Services
from api.uploads.multipart import safe_filename
from api.uploads.receive import check_capacity
from api.uploads.resumable import problems, tus
from db import uploads
from db.access import quotas
from db.models import Upload, UploadPart
from db.settings import MIB

MAX_OPEN = 1000
"""Uploads of a tenant that no job was made of."""

PART_BYTES = 64 * MIB
MAX_PARTS = 1000
"""Of an upload that is written in parts: those of a large one are larger."""


def by_tus(services: Services, tenant: str, headers: Headers) -> Upload:
    """Create the upload that the headers of a tus client describe. Raises Problem or QuotaExceeded."""
    described = tus.metadata(headers)
    upload = _upload(services, tenant, described.get("filename"), tus.digest_in(described))
    upload.metadata_line, upload.concat = headers.get("upload-metadata"), headers.get("upload-concat")
    if (partials := tus.concatenated(headers)) is not None:
        return _concatenate(services, upload, partials)
    upload.bytes = tus.length(headers, services.settings)
    return _insert(services, upload, [])


def by_json(
    services: Services, tenant: str, size: int, filename: str, sha256: str | None, *, in_parts: bool
) -> Upload:
    """Create an upload whose parts the client writes to storage, or else sends by tus. Raises like by_tus."""
    tus.check_length(size, services.settings)
    upload = _upload(services, tenant, filename, sha256)
    upload.bytes, upload.in_parts = size, in_parts
    return _insert(services, upload, _planned(upload) if in_parts else [])


def _upload(services: Services, tenant: str, filename: str | None, sha256: str | None) -> Upload:
    return Upload(
        id=uuid.uuid4(),
        tenant=tenant,
        filename=safe_filename(filename),
        sha256=sha256,
        expires_at=datetime.now(UTC) + services.settings.upload_lifetime,
    )


def _planned(upload: Upload) -> list[UploadPart]:
    size = max(PART_BYTES, -(-upload.bytes // MAX_PARTS))
    return [
        UploadPart(
            key=uploads.planned_key(upload.id, number),
            upload_id=upload.id,
            start=start,
            bytes=min(size, upload.bytes - start),
        )
        for number, start in enumerate(range(0, upload.bytes, size), start=1)
    ]


def _insert(services: Services, upload: Upload, planned: Sequence[UploadPart]) -> Upload:
    check_capacity(services, upload.tenant, upload.bytes, None)
    with services.for_tenant(upload.tenant).begin() as session:
        if uploads.count_open(session, upload.tenant, MAX_OPEN) >= MAX_OPEN:
            raise problems.too_many(MAX_OPEN)
        quotas.admit_upload(session, services.settings, upload.tenant, upload.bytes)
        session.add(upload)
        session.flush()
        session.add_all(planned)
        session.refresh(upload)
    return upload


def _concatenate(services: Services, upload: Upload, ids: Sequence[uuid.UUID]) -> Upload:
    with services.for_tenant(upload.tenant).begin() as session:
        try:
            # in one order, so that two who want the same do not wait for each other
            found = {each: uploads.lock(session, upload.tenant, each) for each in sorted(ids)}
        except uploads.UploadGone as error:
            raise problems.not_found(error) from error
        partials = [found[each] for each in ids]
        for partial in partials:
            if not partial.is_partial:
                raise tus.invalid_header("Upload-Concat", "of partial uploads")
            if partial.received < partial.bytes:
                raise problems.incomplete(partial)
        upload.bytes = sum(partial.bytes for partial in partials)
        upload.received = upload.bytes
        tus.check_length(upload.bytes, services.settings)
        uploads.concatenate(session, upload, partials)
        session.refresh(upload)
    return upload
