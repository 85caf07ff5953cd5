"""Jobs whose recording is named by its address, and fetched by a worker."""

from __future__ import annotations

from api.access.caller import Caller
from api.dependencies import Services
from api.options import check_options
from api.problems import Problem
from api.schemas import JobOptions
from api.uploads.receive import check_capacity
from api.uploads.unfetched import Failure, describe, digest, insert
from db.models import Job
from db.queue.transaction import JobTransaction
from db.sources import Source, SourceKind, SourceNotAllowed, parse_source


def make_job(
    services: Services,
    caller: Caller,
    address: str,
    options: JobOptions,
    idempotency_key: str | None,
    *,
    files: bool = False,
    failure: Failure | None = None,
) -> tuple[Job, JobTransaction | None]:
    """Commit a job that begins with fetching; None for one that the idempotency key made before. Raises Problem.

    ``files``: whether the address may be one of the server's own folder.
    """
    check_options(services.endpoints, caller, options)
    source = _parse(services, address, files=files)
    check_capacity(services, caller.tenant, 0, idempotency_key)
    job = describe(services.settings, caller, options, idempotency_key)
    job.filename, job.source_url, job.source_digest = source.filename, source.address, digest(source.address)
    return insert(services, job, failure=failure)


def _parse(services: Services, address: str, *, files: bool) -> Source:
    try:
        source = parse_source(address, services.settings)
        if source.kind is SourceKind.FILE and not files:
            raise SourceNotAllowed("Recordings are fetched by https, http or s3; send a file itself.")
    except SourceNotAllowed as error:
        raise Problem(422, error.code, "Address not allowed", str(error)) from error
    return source
