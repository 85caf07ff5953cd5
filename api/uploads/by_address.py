"""Jobs whose recording is named by its address, and fetched by a worker."""

from __future__ import annotations

import hashlib
import uuid
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import IntegrityError

from api.access.caller import Caller
from api.dependencies import Services
from api.problems import Problem, invalid
from api.schemas import Channels, JobOptions
from api.uploads.receive import check_capacity
from api.uploads.repeated import check_same_request
from api.webhooks import require_secret
from db import jobs
from db.access import quotas
from db.models import Job, StepKind
from db.objects.storage import job_prefix
from db.queue.transaction import JobTransaction
from db.sources import Source, SourceKind, SourceNotAllowed, parse_source

Schema = TypeVar("Schema", bound=BaseModel)


async def read_json(request: Request, schema: type[Schema]) -> Schema:
    """The body of a request that may have others than JSON. Raises Problem."""
    try:
        return schema.model_validate_json(await request.body())
    except ValidationError as error:
        raise invalid("invalid_request", "Invalid request", error.errors()) from error


def make_job(
    services: Services,
    caller: Caller,
    address: str,
    options: JobOptions,
    idempotency_key: str | None,
    *,
    files: bool = False,
) -> tuple[Job, JobTransaction | None]:
    """Commit a job that begins with fetching; None for one that the idempotency key made before. Raises Problem.

    ``files``: whether the address may be one of the server's own folder.
    """
    caller.require_priority(options.priority)
    source = _parse(services, address, files=files)
    check_capacity(services, caller.tenant, 0, idempotency_key)
    job_id = uuid.uuid4()
    diarize = services.settings.diarize if options.diarize is None else options.diarize
    job = Job(
        id=job_id,
        tenant=caller.tenant,
        key_id=caller.key_id,
        idempotency_key=idempotency_key,
        filename=source.filename,
        bytes=0,
        sha256="",
        source_key=f"{job_prefix(job_id)}source",
        source_url=source.address,
        source_digest=hashlib.sha256(source.address.encode()).hexdigest(),
        language=options.language,
        priority=options.priority,
        diarize=options.channels is Channels.MIX and diarize,
        options=options.model_dump(mode="json", exclude_none=True),
    )
    return _insert(services, job)


def _parse(services: Services, address: str, *, files: bool) -> Source:
    try:
        source = parse_source(address, services.settings)
        if source.kind is SourceKind.FILE and not files:
            raise SourceNotAllowed("Recordings are fetched by https, http or s3; send a file itself.")
    except SourceNotAllowed as error:
        raise Problem(422, error.code, "Address not allowed", str(error)) from error
    return source


def _insert(services: Services, job: Job) -> tuple[Job, JobTransaction | None]:
    if (first := _first(services, job)) is not None:
        return check_same_request(first, job), None
    require_secret(services, job)
    try:
        with services.for_tenant(job.tenant).begin() as session:
            quotas.admit_upload(session, services.settings, job.tenant, 0)
            transaction = jobs.create(session, job, StepKind.FETCH)
            session.refresh(job)
        return job, transaction
    except IntegrityError:
        if (first := _first(services, job)) is None:
            raise
        return check_same_request(first, job), None


def _first(services: Services, job: Job) -> Job | None:
    if job.idempotency_key is None:
        return None
    with services.for_tenant(job.tenant)() as session:
        return jobs.by_idempotency_key(session, job.tenant, job.idempotency_key)
