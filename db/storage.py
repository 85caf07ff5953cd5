"""Objects in S3: recordings, chunks, transcripts. Keys of one job all begin with ``jobs/{id}/``."""

from __future__ import annotations

import hashlib
import io
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from db.settings import MIB, Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PART_BYTES = 8 * MIB
DELETED_AT_ONCE = 1000
"""What one request may name."""
StorageError = (BotoCoreError, ClientError)
"""What S3 calls raise when the store is down, slow or refuses."""


class ObjectMissing(Exception):
    """There is no such object."""


def job_prefix(job_id: uuid.UUID) -> str:
    return f"jobs/{job_id}/"


class Storage:
    """One bucket. Thread-safe; every call has timeouts and bounded retries."""

    def __init__(self, settings: Settings) -> None:
        self.bucket = settings.s3_bucket
        self._settings = settings
        self.client = self._client(settings.s3_endpoint)

    def _client(self, endpoint: str | None) -> S3Client:
        return boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name=self._settings.s3_region,
            # None leaves the choice to the SDK: AWS_CA_BUNDLE, or its own authorities
            verify=str(self._settings.s3_ca_bundle) if self._settings.s3_ca_bundle else None,
            aws_access_key_id=self._settings.s3_access_key,
            aws_secret_access_key=self._settings.s3_secret_key,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                connect_timeout=3,
                read_timeout=60,
                max_pool_connections=32,
                retries={"mode": "standard", "max_attempts": 4},
                # other S3 servers than AWS's do not all know the newer default checksums
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def ensure_bucket(self) -> None:
        """Create the bucket unless it exists."""
        try:
            self.client.head_bucket(Bucket=self.bucket)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            self.client.create_bucket(Bucket=self.bucket)

    def ping(self) -> None:
        self.client.head_bucket(Bucket=self.bucket)

    def put(self, key: str, data: bytes, content_type: str) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data, ContentType=content_type)

    def get(self, key: str) -> bytes:
        """The whole object. Raises ObjectMissing."""
        try:
            return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except self.client.exceptions.NoSuchKey as error:
            raise ObjectMissing(key) from error

    def open(self, key: str) -> io.BufferedReader:
        """A seekable reader over ranges of the object. Raises ObjectMissing."""
        try:
            size = self.client.head_object(Bucket=self.bucket, Key=key)["ContentLength"]
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                raise ObjectMissing(key) from error
            raise
        return io.BufferedReader(_RangeReader(self, key, size), buffer_size=256 * 1024)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` (exclusive)."""
        answer = self.client.get_object(Bucket=self.bucket, Key=key, Range=f"bytes={start}-{end - 1}")
        return answer["Body"].read()

    def list(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """Keys below a prefix with the time each was last written."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        for page in pages:
            for item in page.get("Contents", []):
                yield item["Key"], item["LastModified"]

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Keys below a prefix with the bytes of each."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        for page in pages:
            for item in page.get("Contents", []):
                yield item["Key"], item["Size"]

    def download(self, key: str, file: Path) -> None:
        """The object to a file, in parts where it is large."""
        self.client.download_file(self.bucket, key, str(file))

    def upload(self, key: str, file: Path) -> None:
        self.client.upload_file(str(file), self.bucket, key)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those already gone are no error."""
        left = iter(keys)
        while batch := list(islice(left, DELETED_AT_ONCE)):
            answer = self.client.delete_objects(
                Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
            )
            if failed := answer.get("Errors"):
                raise ClientError({"Error": {"Code": failed[0].get("Code", "")}}, "DeleteObjects")

    def presign(self, key: str, filename: str, seconds: int) -> str:
        """A URL that lets its bearer download the object for a while."""
        client = self._client(self._settings.s3_public_endpoint or self._settings.s3_endpoint)
        disposition = f"inline; filename*=UTF-8''{_quote(filename)}"
        return client.generate_presigned_url(
            "get_object",
            Params={"Bucket": self.bucket, "Key": key, "ResponseContentDisposition": disposition},
            ExpiresIn=seconds,
        )

    def writer(self, key: str, content_type: str) -> ObjectWriter:
        return ObjectWriter(self, key, content_type)

    def stale_uploads(self, before: datetime) -> Iterator[tuple[str, str]]:
        """Key and upload id of multipart uploads begun before a time and never finished."""
        pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket)
        try:
            uploads = [upload for page in pages for upload in page.get("Uploads", [])]
        except ClientError as error:
            # how rclone says that there has been no such upload yet
            if error.response["Error"]["Code"] != "NoSuchUpload":
                raise
            return
        for upload in uploads:
            if upload["Initiated"] < before:
                yield upload["Key"], upload["UploadId"]


def _quote(filename: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else _percent(c) for c in filename)


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


class ObjectWriter:
    """Writes an object of unknown size with flat memory: parts of PART_BYTES, hashed as they pass.

    Nothing is visible under the key before :meth:`close`; :meth:`abort` leaves nothing behind.
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
        """Take bytes into the buffer, without I/O; True when :meth:`flush` is due."""
        self._hash.update(data)
        self.size += len(data)
        self._buffer += data
        return len(self._buffer) >= PART_BYTES

    def flush(self) -> None:
        """Send the buffer as one part."""
        client = self._storage.client
        if self._upload_id is None:
            answer = client.create_multipart_upload(**self._target, ContentType=self._content_type)
            self._upload_id = answer["UploadId"]
        number = len(self._parts) + 1
        # bytes(), since the SDK may send the body again on a retry
        part = client.upload_part(
            **self._target, UploadId=self._upload_id, PartNumber=number, Body=bytes(self._buffer)
        )
        self._parts.append({"PartNumber": number, "ETag": part["ETag"]})
        self._buffer.clear()

    def close(self) -> None:
        """Make the object appear under its key."""
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
        """Forget everything written so far; what was closed stays."""
        self._buffer.clear()
        if self._upload_id is not None:
            self._storage.client.abort_multipart_upload(**self._target, UploadId=self._upload_id)
            self._upload_id = None


class _RangeReader(io.RawIOBase):
    """Random access to an object through ranged reads, with a few recent blocks kept."""

    BLOCK = 4 * MIB
    KEPT = 4

    def __init__(self, storage: Storage, key: str, size: int) -> None:
        self._storage, self._key, self._size = storage, key, size
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self._size:
            return 0
        number, inside = divmod(self._position, self.BLOCK)
        data = self._block(number)[inside : inside + len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        start = number * self.BLOCK
        data = self._storage.read_range(self._key, start, min(start + self.BLOCK, self._size))
        self._blocks[number] = data
        if len(self._blocks) > self.KEPT:
            self._blocks.popitem(last=False)
        return data
