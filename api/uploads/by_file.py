"""Jobs whose recording comes with the request."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping

from fastapi import Request
from sqlalchemy.exc import IntegrityError

from api.access.caller import Caller
from api.dependencies import Services
from api.options import check_options
from api.schemas import Channels, JobOptions
from api.uploads.multipart import FIELD_BYTES, Form
from api.uploads.receive import Check, receive_upload
from api.uploads.repeated import check_same_request
from api.webhooks import require_secret
from db import jobs
from db.access import quotas
from db.models import Job, KnownSpeaker
from db.objects.writer import ObjectWriter
from db.queue.transaction import JobTransaction


async def receive_job(
    request: Request,
    services: Services,
    caller: Caller,
    idempotency_key: str | None,
    options_of: Callable[[Form], JobOptions],
    check: Check,
    *,
    field_bytes: Callable[[str], int] = lambda name: FIELD_BYTES,
    known_speakers: Callable[[], Mapping[str, bytes]] = dict,
    patience: float = 0.0,
) -> tuple[Job, JobTransaction | None]:
    """Commit a job with the uploaded file; None for one that the idempotency key made before. Raises Problem.

    ``options_of`` runs in a thread, once all fields are there, and after it ``known_speakers``, which returns
    samples of people by their names; the rest is as for ``receive_upload``.
    """

    def create_rows(form: Form, writer: ObjectWriter, job_id: uuid.UUID) -> tuple[Job, JobTransaction | None]:
        options = options_of(form)
        check_options(services.endpoints, caller, options)
        job = _job(form, writer, options, diarize=services.settings.diarize)
        job.id, job.tenant, job.idempotency_key = job_id, caller.tenant, idempotency_key
        job.key_id = caller.key_id
        return _insert(services, job, writer, known_speakers())

    return await receive_upload(
        request, services, caller.tenant, create_rows, check, field_bytes=field_bytes, patience=patience
    )


def _job(form: Form, writer: ObjectWriter, options: JobOptions, *, diarize: bool) -> Job:
    return Job(
        filename=form.filename or "",
        bytes=writer.size,
        sha256=writer.sha256,
        source_key=writer.key,
        language=options.language,
        priority=options.priority,
        diarize=options.channels is Channels.MIX and (diarize if options.diarize is None else options.diarize),
        options=options.model_dump(mode="json", exclude_none=True),
    )


def _insert(
    services: Services, job: Job, writer: ObjectWriter, known_speakers: Mapping[str, bytes]
) -> tuple[Job, JobTransaction | None]:
    """Commit the object, then the row. A repeated idempotency key returns the job that it created first."""
    sessions = services.for_tenant(job.tenant)
    if job.idempotency_key is not None:
        with sessions() as session:
            first = jobs.by_idempotency_key(session, job.tenant, job.idempotency_key)
        if first is not None:
            writer.abort()
            return check_same_request(first, job), None
    require_secret(services, job)
    writer.close()
    try:
        with sessions.begin() as session:
            quotas.admit_upload(session, services.settings, job.tenant, job.bytes)
            transaction = jobs.create(session, job)
            session.add_all(
                KnownSpeaker(job_id=job.id, name=name, sample=sample) for name, sample in known_speakers.items()
            )
            session.refresh(job)
        return job, transaction
    except (IntegrityError, quotas.QuotaExceeded):
        services.storage.delete([job.source_key])
        with sessions() as session:
            first = jobs.by_idempotency_key(session, job.tenant, job.idempotency_key or "")
        if first is None:
            raise
        return check_same_request(first, job), None
