"""Putting the pieces of an upload together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from db import uploads
from db.models import UploadPart
from db.objects.storage import Storage
from tasks.errors import Permanent


def read_upload(storage: Storage, pieces: Sequence[UploadPart]) -> Iterator[bytes]:
    """The content in blocks. Raises Permanent or StorageError."""
    try:
        yield from uploads.read(storage, pieces)
    except uploads.PartChanged:
        raise changed() from None


def changed() -> Permanent:
    return Permanent(
        "upload_changed", "A part of the upload was written again after it was complete; upload anew."
    )
