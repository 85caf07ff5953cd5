"""``/v1/jobs``: make, list, show, cancel, retry and delete jobs."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, BackgroundTasks, Header, Query, Request, Response
from sqlalchemy import func

from api.cursors import decode_cursor, encode_cursor
from api.dependencies import (
    CallerDep,
    CurrentJob,
    Services,
    ServicesDep,
    SessionDep,
    Tenant,
    announce,
    find_job,
    needs,
)
from api.openapi import properties, reference
from api.options import check_options
from api.problems import Problem, audio_erased, job_not_found
from api.schemas import JobChange, JobOptions, JobPage, JobRequest, JobView
from api.text import NO_CONTROLS
from api.uploads import by_address, by_upload
from api.uploads.by_file import receive_job
from api.uploads.json_body import is_json, read_json
from api.uploads.multipart import Form
from api.uploads.options import parse_options
from api.uploads.receive import form_body
from db import jobs
from db.access import quotas
from db.erasure.deletion import delete_job
from db.models import ErasureReason, EventType, Job, JobStatus, Scope
from db.queue import retry
from db.queue.transaction import JobGone, JobTransaction, job_transaction
from db.settings import Settings

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

UPLOAD_BODY = form_body(
    ["file"],
    options={"type": "string", "description": "A JSON object of the options below."},
    **properties(JobOptions),
)
UPLOAD_BODY["requestBody"]["content"]["application/json"] = {"schema": reference(JobRequest)}


@router.post(
    "", status_code=202, response_model=JobView, openapi_extra=UPLOAD_BODY, dependencies=[needs(Scope.JOBS_WRITE)]
)
async def create_job(
    request: Request,
    response: Response,
    background: BackgroundTasks,
    services: ServicesDep,
    caller: CallerDep,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> JobView:
    """Upload a recording, or name one: the address that it is to be fetched from, or an upload that is complete.

    The answer comes as soon as the recording is stored, or the address noted; the work goes on in the queue.
    """
    if is_json(request):
        wanted = await read_json(request, JobRequest)
        make = (
            partial(by_upload.make_job, services, caller, wanted.upload_id)
            if wanted.upload_id is not None
            else partial(by_address.make_job, services, caller, wanted.audio_url or "")
        )
        made, transaction = await to_thread.run_sync(make, wanted.options, idempotency_key)
        return _answer(services, response, background, made, transaction)

    def check(form: Form) -> None:
        check_options(services.endpoints, caller, parse_options(form.fields))

    made, transaction = await receive_job(
        request, services, caller, idempotency_key, lambda form: parse_options(form.fields), check
    )
    return _answer(services, response, background, made, transaction)


def _answer(
    services: Services,
    response: Response,
    background: BackgroundTasks,
    made: Job,
    transaction: JobTransaction | None,
) -> JobView:
    if transaction is not None:
        background.add_task(announce, services, transaction)
    response.headers["Location"] = f"/v1/jobs/{made.id}"
    return JobView.of(made)


@router.get("", response_model=JobPage, dependencies=[needs(Scope.JOBS_READ)])
def list_jobs(
    session: SessionDep,
    tenant: Tenant,
    status: Annotated[
        list[JobStatus], Query(max_length=len(JobStatus), description="Repeatable; any if left out.")
    ] = [],  # noqa: B006  (FastAPI copies it)
    q: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=200,
            pattern=NO_CONTROLS,
            description="A part of the recording's title, of its name, or of the label of its source.",
        ),
    ] = None,
    tag: Annotated[str | None, Query(min_length=1, max_length=200, pattern=NO_CONTROLS)] = None,
    collection: Annotated[uuid.UUID | None, Query(description="Those in this collection.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: str | None = None,
) -> JobPage:
    """Jobs, newest first. ``next_cursor`` leads to the next page; it is null on the last."""
    after = decode_cursor(cursor) if cursor else None
    found = jobs.page(
        session,
        tenant,
        limit=limit + 1,
        statuses=status,
        containing=q,
        tag=tag,
        collection=collection,
        after=after,
    )
    shown = found[:limit]
    more = len(found) > limit
    return JobPage(
        data=[JobView.of(job) for job in shown],
        next_cursor=encode_cursor(shown[-1].created_at, shown[-1].id) if more else None,
    )


@router.get("/{job_id}", response_model=JobView, dependencies=[needs(Scope.JOBS_READ)])
def show_job(job: CurrentJob) -> JobView:
    """The state of a job."""
    return JobView.of(job)


@router.patch("/{job_id}", response_model=JobView, dependencies=[needs(Scope.JOBS_WRITE)])
def change_job(
    job_id: str, change: JobChange, services: ServicesDep, tenant: Tenant, background: BackgroundTasks
) -> JobView:
    """Give the recording a title, tags, or another source."""
    return JobView.of(_change(services, tenant, job_id, partial(_describe, change), background))


def _describe(change: JobChange, transaction: JobTransaction) -> None:
    job, given = transaction.job, change.model_fields_set
    if "title" in given:
        job.title = change.title
    if "tags" in given:
        job.tags = change.tags or []
    if "source" in given:
        job.options = job.options | {"source": change.source}


@router.post("/{job_id}/cancel", response_model=JobView, dependencies=[needs(Scope.JOBS_WRITE)])
def cancel_job(job_id: str, services: ServicesDep, tenant: Tenant, background: BackgroundTasks) -> JobView:
    """Stop a job. Steps under way are discarded; what is drafted stays readable."""
    return JobView.of(_change(services, tenant, job_id, cancel, background))


def cancel(transaction: JobTransaction) -> None:
    """Stop the job; a cancelled one stays as it is. Raises Problem."""
    job = transaction.job
    if job.status == JobStatus.CANCELLED:
        return
    if job.status.finished:
        detail = f"Job {job.id} is {job.status} already."
        raise Problem(409, "job_finished", "Job finished", detail)
    job.status = JobStatus.CANCELLED
    job.completed_at = func.now()
    transaction.skip_open_steps()
    transaction.emit(EventType.JOB_CANCELLED, {})


@router.post("/{job_id}/retry", response_model=JobView, dependencies=[needs(Scope.JOBS_WRITE)])
def retry_job(job_id: str, services: ServicesDep, tenant: Tenant, background: BackgroundTasks) -> JobView:
    """Run a failed or cancelled job again from the steps that are done."""
    return JobView.of(_change(services, tenant, job_id, partial(restart, services.settings), background))


def restart(settings: Settings, transaction: JobTransaction) -> None:
    """Have a failed or cancelled job run again. Raises Problem, or QuotaExceeded."""
    job = transaction.job
    if job.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
        detail = f"Job {job.id} is {job.status}; a failed or cancelled job can be retried."
        raise Problem(409, "job_not_failed", "Job not failed", detail)
    if job.audio_erased_at is not None:
        raise audio_erased(job)
    quotas.admit_retry(transaction.session, settings, job)
    retry.retry_job(transaction)


@router.delete("/{job_id}", status_code=204, dependencies=[needs(Scope.JOBS_WRITE)])
def remove_job(job_id: str, services: ServicesDep, caller: CallerDep, background: BackgroundTasks) -> None:
    """Remove a job with its audio, its transcript and its clips in exports of training data.

    The API forgets it at once, storage soon after; `/v1/erasures?subject=` has the certificate.
    """
    _change(services, caller.tenant, job_id, partial(delete, requested_by=caller.actor), background)


def delete(transaction: JobTransaction, requested_by: str) -> None:
    """Stop the job and have it removed."""
    if not transaction.job.status.finished:
        cancel(transaction)
    delete_job(transaction, ErasureReason.DELETED, requested_by)


def _change(
    services: Services,
    tenant: str,
    job_id: str,
    change: Callable[[JobTransaction], None],
    background: BackgroundTasks,
) -> Job:
    """Change a job, and announce it once the response is sent."""
    transaction = apply(services, tenant, job_id, change)
    background.add_task(announce, services, transaction)
    return transaction.job


def apply(
    services: Services, tenant: str, job_id: str, change: Callable[[JobTransaction], None]
) -> JobTransaction:
    """Change a job under its lock. What came of it is to be announced. Raises Problem."""
    sessions = services.for_tenant(tenant)
    with sessions() as session:
        found = find_job(session, tenant, job_id).id
    try:
        with job_transaction(sessions, found) as transaction:
            if transaction.job.deleted_at is not None:
                raise job_not_found(job_id)
            change(transaction)
            transaction.session.flush()
            transaction.session.refresh(transaction.job)
    except JobGone as error:
        raise job_not_found(job_id) from error
    return transaction
