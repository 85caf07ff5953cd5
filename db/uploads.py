"""Resumable uploads: what has come of them, and who may add to it.

The bytes are objects, each a piece; rows say which of them count, so that what a request wrote whose turn was
over is never read. ``received`` moves only in the transaction that adds the row of a piece.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from db.models import Step, StepKind, StepState, Upload, UploadPart
from db.objects import pieces as pieces_of
from db.objects import removal
from db.objects.storage import ObjectMissing, Storage, StorageError, job_prefix
from db.session import Sessions

logger = logging.getLogger(__name__)

SMALLEST_PART = 1024 * 1024
"""What ends with less is written again together with what follows: an upload has few pieces, however it comes."""

PLANNED = re.compile(r"[0-9]{5}")


class UploadGone(Exception):
    """There is no such upload, any more."""


class WriterReplaced(Exception):
    """Another request began to append after this one."""


class OffsetMismatch(Exception):
    """The upload has another offset than the one to append at."""

    def __init__(self, received: int) -> None:
        super().__init__(f"{received} bytes are there")
        self.received = received


class PartChanged(Exception):
    """The object of a piece is gone, or of another size."""


def parts_prefix(upload_id: uuid.UUID) -> str:
    return f"{job_prefix(upload_id)}parts/"


def is_piece(key: str) -> bool:
    """Whether the object was written for an upload."""
    return key.split("/")[2:3] == ["parts"]


def planned_key(upload_id: uuid.UUID, number: int) -> str:
    """Of a part that the client writes itself; numbers count from 1."""
    return f"{parts_prefix(upload_id)}{number:05}"


def is_planned(key: str) -> bool:
    """Whether a client wrote the object, whose row was there before."""
    return is_piece(key) and PLANNED.fullmatch(key.rpartition("/")[2]) is not None


def new_key(upload_id: uuid.UUID) -> str:
    """Of a piece that nobody else writes to, whatever becomes of the request that stores it."""
    return f"{parts_prefix(upload_id)}{uuid.uuid4().hex}"


def get(session: Session, tenant: str, upload_id: uuid.UUID) -> Upload | None:
    """The tenant's upload, unless it has expired."""
    return session.scalar(
        select(Upload).where(
            Upload.id == upload_id,
            Upload.tenant == tenant,
            Upload.used_at.is_not(None) | (Upload.expires_at > func.now()),
        )
    )


def lock(session: Session, tenant: str, upload_id: uuid.UUID) -> Upload:
    """The upload, locked until the transaction ends. Raises UploadGone."""
    session.execute(select(Upload.id).where(Upload.id == upload_id).with_for_update())
    if (found := get(session, tenant, upload_id)) is None:
        raise UploadGone(str(upload_id))
    return found


def parts(session: Session, upload_id: uuid.UUID) -> Sequence[UploadPart]:
    """In the order of their bytes."""
    return session.scalars(
        select(UploadPart).where(UploadPart.upload_id == upload_id).order_by(UploadPart.start)
    ).all()


def counted(session: Session, keys: Sequence[str]) -> set[str]:
    """Those of the keys that hold pieces of uploads."""
    return set(session.scalars(select(UploadPart.key).where(UploadPart.key.in_(keys))))


def count_open(session: Session, tenant: str, most: int) -> int:
    """How many uploads no job was made of, counted up to ``most``."""
    some = select(Upload.id).where(Upload.tenant == tenant, Upload.used_at.is_(None)).limit(most)
    return session.scalar(select(func.count()).select_from(some.subquery())) or 0


def begin_append(
    session: Session, tenant: str, upload_id: uuid.UUID, offset: int, lifetime: timedelta
) -> tuple[Upload, UploadPart | None]:
    """Make the caller the upload's writer; whoever was it before adds no more. Raises UploadGone, OffsetMismatch.

    Returns the last piece too, if it is to be written again together with what follows.
    """
    upload = lock(session, tenant, upload_id)
    if upload.received != offset:
        raise OffsetMismatch(upload.received)
    upload.writer = uuid.uuid4()
    prolong(session, upload, lifetime)
    last = session.scalar(
        select(UploadPart).where(UploadPart.upload_id == upload_id).order_by(UploadPart.start.desc()).limit(1)
    )
    return upload, last if last is not None and last.bytes < SMALLEST_PART else None


def append(
    session: Session,
    upload: Upload,
    pieces: Sequence[UploadPart],
    replaced: UploadPart | None,
    lifetime: timedelta,
) -> Upload:
    """Add pieces, the first in the place of ``replaced``. Raises UploadGone, WriterReplaced."""
    current = lock(session, upload.tenant, upload.id)
    if current.writer != upload.writer:
        raise WriterReplaced
    if replaced is not None:
        session.execute(delete(UploadPart).where(UploadPart.key == replaced.key))
    session.add_all(pieces)
    current.received = pieces[-1].start + pieces[-1].bytes
    if current.received == current.bytes and current.sha256 is None and not current.is_partial:
        current.completed_at = func.now()
    prolong(session, current, lifetime)
    return current


def prolong(session: Session, upload: Upload, lifetime: timedelta) -> None:
    """Have the upload, which is in use, expire that long after now."""
    upload.expires_at = func.now() + lifetime
    session.flush()
    session.refresh(upload)


def discard(sessions: Sessions, storage: Storage, keys: Sequence[str]) -> None:
    """Delete the objects of pieces that count no more. What cannot be deleted now, the sweep removes."""
    try:
        if not removal.is_held(sessions):
            storage.delete(keys)
    except (*StorageError, SQLAlchemyError) as error:
        logger.warning("left behind for the sweep: %s", error)


def fetched(session: Session) -> Sequence[uuid.UUID]:
    """Uploads whose recording is put together and whose pieces are still there."""
    done = (Step.kind == StepKind.FETCH, Step.state == StepState.DONE)
    return session.scalars(
        select(Upload.id).join(Step, Step.job_id == Upload.id).where(Upload.used_at.is_not(None), *done)
    ).all()


def tidy(sessions: Sessions, storage: Storage, upload_id: uuid.UUID) -> None:
    """Delete the pieces of such an upload, then its row. Does not raise."""
    keys = select(UploadPart.key).where(UploadPart.upload_id == upload_id)
    pieces_of.tidy(sessions, storage, keys, delete(Upload).where(Upload.id == upload_id))


def read(storage: Storage, pieces: Sequence[UploadPart]) -> Iterator[bytes]:
    """The content of the pieces in blocks. Raises PartChanged or StorageError."""
    for piece in pieces:
        size = 0
        try:
            for block in storage.stream(piece.key):
                size += len(block)
                yield block
        except ObjectMissing as error:
            raise PartChanged(piece.key) from error
        if size != piece.bytes:
            raise PartChanged(piece.key)


def concatenate(session: Session, whole: Upload, partials: Sequence[Upload]) -> None:
    """Insert an upload of the pieces of others, which are locked, and end thereby."""
    session.add(whole)
    session.flush()
    start = 0
    for partial in partials:
        session.execute(
            update(UploadPart)
            .where(UploadPart.upload_id == partial.id)
            .values(upload_id=whole.id, start=UploadPart.start + start)
        )
        start += partial.bytes
    session.execute(delete(Upload).where(Upload.id.in_([partial.id for partial in partials])))


def delete_expired(session: Session) -> Sequence[uuid.UUID]:
    """Forget uploads that have expired and that no job was made of."""
    gone = delete(Upload).where(Upload.used_at.is_(None), Upload.expires_at < func.now())
    return session.scalars(gone.returning(Upload.id)).all()
