"""Streaming upload of one S3 object."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from db.settings import MIB

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

    from db.objects.storage import Storage

PART_BYTES = 8 * MIB


class ObjectWriter:
    """Uploads an object of unknown size in parts of PART_BYTES, so that memory stays flat, and hashes it.

    Nothing is visible under the key before :meth:`close`. :meth:`abort` leaves nothing behind.
    """

    def __init__(self, storage: Storage, key: str, content_type: str) -> None:
        self._storage = storage
        self.key = key
        self._target: dict[str, Any] = {"Bucket": storage.bucket, "Key": key}
        self._content_type = content_type
        self._buffer = bytearray()
        self._parts: list[CompletedPartTypeDef] = []
        self._upload_id: str | None = None
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def accept(self, data: bytes) -> bool:
        """Append bytes to the buffer, without I/O. Returns whether :meth:`flush` is due."""
        self._hash.update(data)
        self.size += len(data)
        self._buffer += data
        return len(self._buffer) >= PART_BYTES

    def flush(self) -> None:
        """Upload the buffer as one part."""
        if self._upload_id is None:
            answer = self._storage.client.create_multipart_upload(**self._target, ContentType=self._content_type)
            self._upload_id = answer["UploadId"]
        number = len(self._parts) + 1
        # bytes(), since the SDK may send the body again on a retry
        part = self._storage.client.upload_part(
            **self._target, UploadId=self._upload_id, PartNumber=number, Body=bytes(self._buffer)
        )
        self._parts.append({"PartNumber": number, "ETag": part["ETag"]})
        self._buffer.clear()

    def close(self) -> None:
        """Complete the upload: the object appears under its key."""
        if self._upload_id is None:
            self._storage.put(self.key, bytes(self._buffer), self._content_type)
            return
        if self._buffer:
            self.flush()
        self._storage.client.complete_multipart_upload(
            **self._target, UploadId=self._upload_id, MultipartUpload={"Parts": self._parts}
        )
        self._upload_id = None

    def abort(self) -> None:
        """Discard everything written so far. Does nothing after :meth:`close`."""
        self._buffer.clear()
        if self._upload_id is not None:
            self._storage.client.abort_multipart_upload(**self._target, UploadId=self._upload_id)
            self._upload_id = None
