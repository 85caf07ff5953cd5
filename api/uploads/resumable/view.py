"""Uploads as the API shows them."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.dependencies import Services
from api.uploads.resumable.complete import stored
from db import uploads
from db.models import Upload

URL_SECONDS = 3600
"""For no longer may a part be written to a URL. The rest of an upload has new ones by then."""


class UploadStatus(StrEnum):
    RECEIVING = "receiving"
    COMPLETED = "completed"
    USED = "used"


class UploadRequest(BaseModel):
    """A recording that is to be uploaded."""

    model_config = ConfigDict(extra="forbid")

    bytes: int = Field(ge=0, description="Size of the recording.")
    sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="Of the recording; checked once all of it is there."
    )
    filename: str = Field("", max_length=1000)
    parts: bool = Field(
        True, description="Whether to write parts to storage by presigned URLs; else they are sent by tus."
    )


class PartView(BaseModel):
    number: int
    start: int
    bytes: int
    stored: bool
    url: str | None = Field(
        description="Where to `PUT` exactly these bytes, again if need be; within an hour. GET has new ones."
    )


class UploadView(BaseModel):
    """An upload as the API shows it."""

    id: UUID
    status: UploadStatus
    filename: str
    bytes: int
    received: int
    sha256: str | None
    created_at: datetime
    expires_at: datetime | None = Field(description="Null once a job was made of it.")
    job_id: UUID | None
    parts: list[PartView] | None = Field(description="Null of an upload that is sent by tus.")


def view(services: Services, upload: Upload) -> UploadView:
    parts = _parts(services, upload) if upload.in_parts and upload.used_at is None else None
    there = upload.received if parts is None else sum(part.bytes for part in parts if part.stored)
    return UploadView(
        id=upload.id,
        status=_status(upload),
        filename=upload.filename,
        bytes=upload.bytes,
        received=there,
        sha256=upload.sha256,
        created_at=upload.created_at,
        expires_at=upload.expires_at if upload.used_at is None else None,
        job_id=upload.id if upload.used_at is not None else None,
        parts=parts,
    )


def _status(upload: Upload) -> UploadStatus:
    if upload.used_at is not None:
        return UploadStatus.USED
    return UploadStatus.RECEIVING if upload.completed_at is None else UploadStatus.COMPLETED


def _parts(services: Services, upload: Upload) -> list[PartView]:
    with services.for_tenant(upload.tenant)() as session:
        planned = uploads.parts(session, upload.id)
    there = stored(services, upload, planned)
    left = (upload.expires_at - datetime.now(UTC)).total_seconds()
    seconds = max(1, min(int(left), URL_SECONDS))
    return [
        PartView(
            number=number,
            start=piece.start,
            bytes=piece.bytes,
            stored=piece.key in there,
            url=services.storage.presign_put(piece.key, piece.bytes, seconds)
            if upload.completed_at is None
            else None,
        )
        for number, piece in enumerate(planned, start=1)
    ]
