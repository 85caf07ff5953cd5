"""Jobs that begin with a worker fetching their recording."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api.access.caller import Caller
from api.dependencies import Services
from api.schemas import Channels, JobOptions
from api.uploads.repeated import check_same_request
from api.webhooks import require_secret
from db import jobs
from db.access import quotas
from db.models import Job, StepKind
from db.objects.storage import job_prefix
from db.queue.transaction import JobTransaction, write_gathered
from db.settings import Settings


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job that nobody waits for fails before it begins: it tells that there is something to be mended."""

    code: str
    message: str


def digest(source: str) -> str:
    """What a repeated request is known by."""
    return hashlib.sha256(source.encode()).hexdigest()


def describe(
    settings: Settings,
    caller: Caller,
    options: JobOptions,
    idempotency_key: str | None,
    job_id: uuid.UUID | None = None,
) -> Job:
    """A job but for its recording, of which nothing is known yet."""
    job_id = job_id or uuid.uuid4()
    diarize = settings.diarize if options.diarize is None else options.diarize
    return Job(
        id=job_id,
        tenant=caller.tenant,
        key_id=caller.key_id,
        idempotency_key=idempotency_key,
        bytes=0,
        sha256="",
        source_key=f"{job_prefix(job_id)}source",
        language=options.language,
        priority=options.priority,
        diarize=options.channels is Channels.MIX and diarize,
        options=options.model_dump(mode="json", exclude_none=True),
    )


def insert(
    services: Services,
    job: Job,
    take: Callable[[Session], object] = lambda session: None,
    failure: Failure | None = None,
) -> tuple[Job, JobTransaction | None]:
    """Commit the job; None for one that its idempotency key made before. Raises Problem or QuotaExceeded.

    ``take`` makes the recording the job's own, in the same transaction.
    """
    if (first := made_before(services, job)) is not None:
        return first, None
    require_secret(services, job)
    try:
        with services.for_tenant(job.tenant).begin() as session:
            take(session)
            quotas.admit_upload(session, services.settings, job.tenant, job.bytes)
            transaction = jobs.create(session, job, StepKind.FETCH)
            if failure is not None:
                jobs.fail(transaction, failure.code, failure.message)
                write_gathered([transaction])
            session.refresh(job)
        return job, transaction
    except IntegrityError:
        if (first := made_before(services, job)) is None:
            raise
        return first, None


def made_before(services: Services, job: Job) -> Job | None:
    """The job that the same idempotency key made. Raises Problem if it was used for another request."""
    if job.idempotency_key is None:
        return None
    with services.for_tenant(job.tenant)() as session:
        first = jobs.by_idempotency_key(session, job.tenant, job.idempotency_key)
    return None if first is None else check_same_request(first, job)
