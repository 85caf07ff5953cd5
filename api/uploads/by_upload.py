"""Jobs whose recording was uploaded before."""

from __future__ import annotations

import uuid

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.access.caller import Caller
from api.dependencies import Services
from api.options import check_options
from api.schemas import JobOptions
from api.uploads.receive import check_capacity
from api.uploads.resumable import problems
from api.uploads.unfetched import describe, digest, insert, made_before
from db import uploads
from db.models import Job
from db.queue.transaction import JobTransaction


def make_job(
    services: Services, caller: Caller, upload_id: uuid.UUID, options: JobOptions, idempotency_key: str | None
) -> tuple[Job, JobTransaction | None]:
    """Commit the job of an upload, which has its id; None beside one that is there already. Raises Problem."""
    check_options(services.endpoints, caller, options)
    job = describe(services.settings, caller, options, idempotency_key, upload_id)
    job.source_digest = digest(f"upload {upload_id}")
    if (first := made_before(services, job) or _of_upload(services, job)) is not None:
        return first, None
    check_capacity(services, caller.tenant, 0, idempotency_key)

    def take(session: Session) -> None:
        upload = uploads.lock(session, caller.tenant, upload_id)
        if upload.completed_at is None:
            raise problems.incomplete(upload)
        if upload.used_at is not None:
            raise uploads.UploadGone(str(upload_id))
        # from now on the job's bytes count instead
        upload.used_at = func.now()
        session.flush()
        job.filename, job.bytes = upload.filename, upload.bytes

    try:
        return insert(services, job, take)
    except uploads.UploadGone as error:
        if (first := _of_upload(services, job)) is None:
            raise problems.not_found(upload_id) from error
        return first, None


def _of_upload(services: Services, job: Job) -> Job | None:
    """The job that was made of the upload before. Raises Problem if that was with other options."""
    with services.for_tenant(job.tenant)() as session:
        first = session.scalar(
            select(Job).where(Job.id == job.id, Job.tenant == job.tenant, Job.source_digest == job.source_digest)
        )
    if first is not None and (first.options != job.options or first.deleted_at is not None):
        raise problems.used(job.id)
    return first
