"""Reading an object of another bucket of the same S3 server."""

from __future__ import annotations

from collections.abc import Iterator

from botocore.exceptions import ClientError, ParamValidationError

from db.objects.storage import Storage
from db.settings import MIB, Settings
from tasks.errors import Permanent, Unreachable
from tasks.fetch.web import too_large

RANGE_BYTES = 8 * MIB


def read_object(storage: Storage, bucket: str, key: str, settings: Settings) -> Iterator[bytes]:
    """The object's content in blocks, all of one version of it. Raises Permanent, Unreachable or StorageError."""
    client = storage.client
    try:
        head = client.head_object(Bucket=bucket, Key=key)
        size, etag = head["ContentLength"], head["ETag"]
        if size > settings.max_upload_bytes:
            raise too_large(settings)
        for start in range(0, size, RANGE_BYTES):
            span = f"bytes={start}-{min(start + RANGE_BYTES, size) - 1}"
            yield client.get_object(Bucket=bucket, Key=key, Range=span, IfMatch=etag)["Body"].read()
    except ParamValidationError:
        raise Permanent("url_not_found", "There is no such bucket or object.") from None
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status == 404:
            raise Permanent("url_not_found", "There is no such object in the bucket.") from None
        if status in (401, 403):
            raise Permanent("url_refused", "This server may not read that bucket.") from None
        if status == 412:
            raise Unreachable("The object changed while it was fetched.") from None
        raise
