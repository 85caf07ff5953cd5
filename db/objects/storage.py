"""The S3 bucket: recordings, chunks, transcripts, exports, models. All keys of a job begin with ``jobs/{id}/``."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import datetime
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from db.objects.reader import RangeReader
from db.objects.writer import ObjectWriter
from db.settings import MIB, Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_KEYS_PER_DELETE = 1000
STREAM_BYTES = MIB
StorageError = (BotoCoreError, ClientError)
"""Raised by S3 calls when the server is down, slow or refuses."""


class ObjectMissing(Exception):
    """There is no such object."""


class ObjectEntry(NamedTuple):
    """An object in a listing."""

    key: str
    size: int
    """In bytes."""
    written: datetime
    """When it was last written."""


def job_prefix(job_id: uuid.UUID) -> str:
    return f"jobs/{job_id}/"


def transcript_prefix(job_id: uuid.UUID) -> str:
    """What the keys of all transcripts of a job begin with, and no others."""
    return f"{job_prefix(job_id)}transcript-"


class Storage:
    """One bucket. Thread-safe; every call has timeouts and bounded retries."""

    def __init__(self, settings: Settings) -> None:
        """Raises FileNotFoundError if the authorities' file is not there."""
        bundle = settings.s3_ca_bundle
        if bundle is not None and not bundle.is_file():
            raise FileNotFoundError(f"LONGHAND_S3_CA_BUNDLE: there is no file {bundle}.")
        self.bucket = settings.s3_bucket
        self._settings = settings
        self.client = self._client(settings.s3_endpoint)

    @cached_property
    def _public_client(self) -> S3Client:
        """Signs URLs for clients, which may know S3 by another name."""
        return self._client(self._settings.s3_public_endpoint or self._settings.s3_endpoint)

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
                # not every S3 server besides AWS's supports the newer default checksums
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

    def stream(self, key: str) -> Iterator[bytes]:
        """The whole object in blocks. Raises ObjectMissing."""
        try:
            body = self.client.get_object(Bucket=self.bucket, Key=key)["Body"]
        except self.client.exceptions.NoSuchKey as error:
            raise ObjectMissing(key) from error
        with closing(body):
            yield from body.iter_chunks(STREAM_BYTES)

    def open(self, key: str) -> io.BufferedReader:
        """A seekable reader over ranges of the object. Raises ObjectMissing."""
        try:
            size = self.client.head_object(Bucket=self.bucket, Key=key)["ContentLength"]
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                raise ObjectMissing(key) from error
            raise
        return io.BufferedReader(RangeReader(partial(self.read_range, key), size), buffer_size=256 * 1024)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` (exclusive)."""
        answer = self.client.get_object(Bucket=self.bucket, Key=key, Range=f"bytes={start}-{end - 1}")
        return answer["Body"].read()

    def list(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """Keys below a prefix, each with the time it was last written."""
        return ((entry.key, entry.written) for entry in self.entries(prefix))

    def entries(self, prefix: str) -> Iterator[ObjectEntry]:
        """What lies below a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        for page in pages:
            for item in page.get("Contents", []):
                yield ObjectEntry(item["Key"], item["Size"], item["LastModified"])

    def download(self, key: str, file: Path) -> None:
        """Copy the object to a file, in parallel parts if it is large. Raises ObjectMissing."""
        try:
            self.client.download_file(self.bucket, key, str(file))
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                raise ObjectMissing(key) from error
            raise

    def upload(self, key: str, file: Path) -> None:
        self.client.upload_file(str(file), self.bucket, key)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. Missing ones are no error."""
        remaining = iter(keys)
        while batch := list(islice(remaining, MAX_KEYS_PER_DELETE)):
            answer = self.client.delete_objects(
                Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
            )
            if failed := answer.get("Errors"):
                raise ClientError({"Error": {"Code": failed[0].get("Code", "")}}, "DeleteObjects")

    def presign(self, key: str, filename: str, seconds: int) -> str:
        """A URL that anybody can download the object from for ``seconds``."""
        disposition = f"inline; filename*=UTF-8''{_quote(filename)}"
        return self._public_client.generate_presigned_url(
            "get_object",
            Params={"Bucket": self.bucket, "Key": key, "ResponseContentDisposition": disposition},
            ExpiresIn=seconds,
        )

    @cached_property
    def public_origin(self) -> str:
        """Scheme, host and port of the URLs that clients get."""
        url = urlsplit(self.presign_put("any", 0, 1))
        return f"{url.scheme}://{url.netloc}"

    def presign_put(self, key: str, size: int, seconds: int) -> str:
        """A URL that anybody can write the object to for ``seconds``, again and again, if it has this size."""
        return self._public_client.generate_presigned_url(
            "put_object",
            Params={"Bucket": self.bucket, "Key": key, "ContentLength": size},
            ExpiresIn=seconds,
        )

    def writer(self, key: str, content_type: str) -> ObjectWriter:
        return ObjectWriter(self, key, content_type)

    def stale_uploads(self, before: datetime) -> Iterator[tuple[str, str]]:
        """Key and upload id of multipart uploads that were started before a time and never completed."""
        pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket)
        try:
            uploads = [upload for page in pages for upload in page.get("Uploads", [])]
        except ClientError as error:
            # rclone's S3 server answers so while there are no uploads at all
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
