"""Jobs of the objects that an S3 server says were created in one of its buckets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote_plus

from botocore.exceptions import ClientError
from pydantic import AliasPath, BaseModel, Field

from api.access.caller import Caller
from api.dependencies import Services
from api.problems import Problem
from api.schemas import JobOptions
from api.uploads import by_address
from api.uploads.options import validate_options
from api.uploads.unfetched import Failure, digest
from db import jobs
from db.models import Job
from db.objects.storage import Storage
from db.queue.transaction import JobTransaction
from db.recordings import MAX_SIDECAR_BYTES, SIDECAR, BadSidecar, is_recording, parse_sidecar
from db.sources import SourceNotAllowed, check_bucket, parse_source

PASSING = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE)
"""Refusals after which the same event may be sent again."""


class Record(BaseModel):
    """What happened to one object, as far as it matters here."""

    event: str = Field(validation_alias="eventName")
    bucket: str = Field("", validation_alias=AliasPath("s3", "bucket", "name"))
    quoted_key: str = Field("", validation_alias=AliasPath("s3", "object", "key"))
    etag: str | None = Field(None, validation_alias=AliasPath("s3", "object", "eTag"))
    version: str | None = Field(None, validation_alias=AliasPath("s3", "object", "versionId"))

    @property
    def key(self) -> str:
        return unquote_plus(self.quoted_key)

    @property
    def sidecar(self) -> str:
        return self.key.removesuffix(PurePosixPath(self.key).suffix) + SIDECAR

    @property
    def address(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which objects are to be transcribed, and how."""

    prefix: str
    suffix: str
    given: Mapping[str, object]
    """Options; those beside an object override them."""

    def why_not(self, services: Services, record: Record) -> str | None:
        """Why the object is passed over. Raises Problem for a bucket that nothing is fetched from."""
        # AWS leaves the "s3:" out
        if not record.event.removeprefix("s3:").startswith("ObjectCreated:"):
            return "it was not created"
        path = PurePosixPath(record.key)
        if not is_recording(path) or any(part.startswith(".") for part in path.parts):
            return "its name is not that of a recording"
        if not (record.key.startswith(self.prefix) and record.key.endswith(self.suffix)):
            return "it has another prefix or suffix"
        try:
            check_bucket(record.bucket, services.settings)
        except SourceNotAllowed as error:
            raise Problem(422, error.code, "Bucket not allowed", str(error)) from error
        try:
            parse_source(record.address, services.settings)
        except SourceNotAllowed as error:
            return str(error)
        return None


def make_job(
    services: Services, caller: Caller, record: Record, wanted: Wanted
) -> tuple[Job, JobTransaction | None]:
    """Commit the job of an object; None for one that an earlier event made. Raises Problem or QuotaExceeded.

    Options beside the object that cannot be taken make a job that fails: nobody reads the answer to an event, and
    one that is refused is sent again and again.
    """
    options = validate_options(dict(wanted.given))
    beside: dict[str, Any] | None = None
    try:
        beside = _read_sidecar(services.storage, record)
        with_beside = validate_options({**wanted.given, **beside}) if beside else options
        return _make(services, caller, record, with_beside)
    except BadSidecar as error:
        fault = f"{error}."
    except Problem as problem:
        if not beside or problem.status in PASSING:
            raise
        fault = problem.detail
    failure = Failure("sidecar_invalid", f"s3://{record.bucket}/{record.sidecar}: {fault}")
    return _make(services, caller, record, options, failure)


def _make(
    services: Services, caller: Caller, record: Record, options: JobOptions, failure: Failure | None = None
) -> tuple[Job, JobTransaction | None]:
    # once the options are mended, the same object makes a job that does not fail
    parts = [record.bucket, record.key, record.version, record.etag, failure and failure.message]
    once = f"s3-event-{digest(repr(parts))}"
    with services.for_tenant(caller.tenant)() as session:
        # whatever its options were
        first = jobs.by_idempotency_key(session, caller.tenant, once)
    if first is not None:
        return first, None
    return by_address.make_job(services, caller, record.address, options, once, failure=failure)


def _read_sidecar(storage: Storage, record: Record) -> dict[str, Any] | None:
    """The options beside an object, if there are any. Raises BadSidecar, ClientError or BotoCoreError."""
    try:
        body = storage.client.get_object(Bucket=record.bucket, Key=record.sidecar)["Body"]
    except ClientError as error:
        # 403: whoever may not list a bucket is not told that an object is missing. What else is refused here, is
        # when the recording is fetched
        if error.response["ResponseMetadata"]["HTTPStatusCode"] < HTTPStatus.INTERNAL_SERVER_ERROR:
            return None
        raise
    with body:
        return parse_sidecar(body.read(MAX_SIDECAR_BYTES + 1))
