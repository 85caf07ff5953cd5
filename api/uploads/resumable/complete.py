"""The end of an upload: whether all of it is there, and is what was announced."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence

from sqlalchemy import func
from sqlalchemy.orm import Session

from api.dependencies import Services
from api.uploads.resumable import problems
from db import uploads
from db.models import Upload, UploadPart


def find(session: Session, tenant: str, upload_id: uuid.UUID) -> Upload:
    """The tenant's upload. Raises Problem (404)."""
    if (found := uploads.get(session, tenant, upload_id)) is None:
        raise problems.not_found(upload_id)
    return found


def lock(session: Session, tenant: str, upload_id: uuid.UUID) -> Upload:
    """The tenant's upload, locked until the transaction ends. Raises Problem (404)."""
    try:
        return uploads.lock(session, tenant, upload_id)
    except uploads.UploadGone as error:
        raise problems.not_found(upload_id) from error


def keep(services: Services, tenant: str, upload_id: uuid.UUID) -> Upload:
    """The upload, which does not expire while it is worked on. Raises Problem (404)."""
    with services.for_tenant(tenant).begin() as session:
        upload = lock(session, tenant, upload_id)
        if upload.completed_at is None:
            uploads.prolong(session, upload, services.settings.upload_lifetime)
    return upload


def complete(services: Services, tenant: str, upload_id: uuid.UUID) -> Upload:
    """Check size and hash of an upload, which is complete thereby. May be repeated. Raises Problem."""
    sessions = services.for_tenant(tenant)
    upload = keep(services, tenant, upload_id)
    if upload.completed_at is not None:
        return upload
    with sessions() as session:
        pieces = uploads.parts(session, upload_id)
    if upload.is_partial:
        raise problems.is_partial()
    if upload.in_parts:
        there = stored(services, upload, pieces)
        missing = [number for number, piece in enumerate(pieces, start=1) if piece.key not in there]
        if missing:
            raise problems.incomplete(upload, missing)
    elif upload.received < upload.bytes:
        raise problems.incomplete(upload)
    if upload.sha256 is not None:
        found = hashlib.sha256()
        try:
            for block in uploads.read(services.storage, pieces):
                found.update(block)
        except uploads.PartChanged as error:
            raise problems.incomplete(upload) from error
        if found.hexdigest() != upload.sha256:
            raise problems.other_digest(found.hexdigest())
    with sessions.begin() as session:
        current = lock(session, tenant, upload_id)
        current.received = current.bytes
        current.completed_at = current.completed_at or func.now()
        session.flush()
        session.refresh(current)
    return current


def stored(services: Services, upload: Upload, pieces: Sequence[UploadPart]) -> dict[str, int]:
    """Keys and sizes of the planned parts that are there as planned."""
    planned = {piece.key: piece.bytes for piece in pieces}
    found = services.storage.entries(uploads.parts_prefix(upload.id))
    return {entry.key: entry.size for entry in found if planned.get(entry.key) == entry.size}
