"""Appending to an upload: its pieces become objects as they arrive, and count once their rows are committed."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress

from anyio import CancelScope, to_thread
from fastapi import Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import ClientDisconnect

from api.dependencies import Services
from api.problems import Problem
from api.uploads.limits import check_disk, paced
from api.uploads.resumable import problems, tus
from api.uploads.resumable.tus import Checksum
from db import uploads
from db.models import Upload, UploadPart
from db.objects.storage import ObjectMissing, StorageError
from db.objects.writer import PART_BYTES
from db.settings import MIB

MAX_CHECKED_BYTES = 512 * MIB
"""A body with a checksum: until it has ended none of its pieces counts, and the sweep waits a day for them."""


async def receive(request: Request, services: Services, tenant: str, upload_id: uuid.UUID, offset: int) -> Upload:
    """Append the body at the offset. What arrives counts, however the request ends. Raises Problem.

    A body with a checksum counts as a whole or not at all.
    """
    settings, checksum = services.settings, tus.checksum(request.headers)
    size = int(request.headers.get("content-length") or 0)
    writer = await to_thread.run_sync(_begin, services, tenant, upload_id, offset, size, checksum)
    try:
        async for data in paced(request.stream(), settings.stall_seconds, settings.min_upload_rate):
            if writer.accept(data):
                await to_thread.run_sync(writer.store)
    except (Problem, ClientDisconnect):
        with CancelScope(shield=True):
            await to_thread.run_sync(writer.keep)
        raise
    return await to_thread.run_sync(writer.finish)


class PieceWriter:
    """The one that may append to an upload, until another begins to. Holds at most one piece in memory."""

    def __init__(
        self,
        services: Services,
        upload: Upload,
        replaced: UploadPart | None,
        beginning: bytes,
        checksum: Checksum | None,
    ) -> None:
        """``beginning`` is the content of ``replaced``, a small piece to be written again with what follows."""
        self.upload = upload
        self._services, self._checksum = services, checksum
        self._replaced = replaced
        self._start = upload.received - len(beginning)
        self._buffer = bytearray(beginning)
        self._received = upload.received
        self._is_new = False
        """Whether anything in memory is yet to be stored."""
        self._stored: list[UploadPart] = []
        self._hash = checksum.new() if checksum else None

    def accept(self, data: bytes) -> bool:
        """Take bytes, without I/O. Returns whether :meth:`store` is due. Raises Problem."""
        self._received += len(data)
        if self._received > self.upload.bytes:
            raise problems.too_long(self.upload.bytes)
        if self._checksum is not None and self._received - self.upload.received > MAX_CHECKED_BYTES:
            raise problems.too_long_to_check(MAX_CHECKED_BYTES)
        if self._hash is not None:
            self._hash.update(data)
        self._buffer += data
        self._is_new = self._is_new or bool(data)
        return len(self._buffer) >= PART_BYTES

    def store(self) -> None:
        """Store what is in memory. Without a checksum to wait for, it counts from now on. Raises Problem."""
        check_disk(self._services.settings)
        piece = UploadPart(
            key=uploads.new_key(self.upload.id),
            upload_id=self.upload.id,
            start=self._start,
            bytes=len(self._buffer),
        )
        # bytes(), since the SDK may send the body again on a retry
        self._services.storage.put(piece.key, bytes(self._buffer), "application/octet-stream")
        self._stored.append(piece)
        self._start += piece.bytes
        self._buffer.clear()
        self._is_new = False
        if self._checksum is None:
            self._commit()

    def finish(self) -> Upload:
        """The upload with everything that was accepted. Raises Problem."""
        if self._is_new:
            self.store()
        if self._hash is not None and self._checksum is not None and self._hash.digest() != self._checksum.digest:
            self._discard(self._stored)
            raise Problem(
                tus.CHECKSUM_MISMATCH,
                "checksum_mismatch",
                "Checksum mismatch",
                "The body is not what its checksum says; nothing of it was kept. Send it again.",
            )
        self._commit()
        return self.upload

    def keep(self) -> None:
        """The same for a body that broke off: what cannot be kept is lost, and sent again."""
        if self._checksum is not None:
            self._discard(self._stored)
        else:
            with suppress(Problem, *StorageError, SQLAlchemyError):
                self.finish()

    def _commit(self) -> None:
        if not self._stored:
            return
        services, stored, self._stored = self._services, self._stored, []
        lifetime = services.settings.upload_lifetime
        try:
            with services.for_tenant(self.upload.tenant).begin() as session:
                self.upload = uploads.append(session, self.upload, stored, self._replaced, lifetime)
        except (uploads.WriterReplaced, uploads.UploadGone) as error:
            self._discard(stored)
            if isinstance(error, uploads.UploadGone):
                raise problems.not_found(self.upload.id) from error
            raise problems.taken_over() from error
        if self._replaced is not None:
            self._discard([self._replaced])
            self._replaced = None

    def _discard(self, pieces: Sequence[UploadPart]) -> None:
        sessions = self._services.for_tenant(self.upload.tenant)
        uploads.discard(sessions, self._services.storage, [piece.key for piece in pieces])


def _begin(
    services: Services, tenant: str, upload_id: uuid.UUID, offset: int, size: int, checksum: Checksum | None
) -> PieceWriter:
    check_disk(services.settings)
    try:
        with services.for_tenant(tenant).begin() as session:
            upload, replaced = uploads.begin_append(
                session, tenant, upload_id, offset, services.settings.upload_lifetime
            )
            if upload.in_parts:
                detail = "The parts of this upload are written to the URLs that it names."
                raise Problem(409, "upload_in_parts", "Upload in parts", detail)
            if upload.concat is not None and not upload.is_partial:
                detail = "Nothing is added to what was concatenated."
                raise Problem(403, "upload_is_final", "Upload is final", detail)
            if size > upload.bytes - offset:
                raise problems.too_long(upload.bytes)
            if checksum is not None and size > MAX_CHECKED_BYTES:
                raise problems.too_long_to_check(MAX_CHECKED_BYTES)
    except uploads.UploadGone as error:
        raise problems.not_found(upload_id) from error
    except uploads.OffsetMismatch as error:
        raise problems.other_offset(error.received) from error
    try:
        beginning = services.storage.get(replaced.key) if replaced is not None else b""
    except ObjectMissing as error:
        # another request has written it again, together with what followed
        raise problems.taken_over() from error
    return PieceWriter(services, upload, replaced, beginning, checksum)
