"""``/api/transcribe`` and ``/api/health``, for clients of an older shape: an address in, a text out."""

from __future__ import annotations

import asyncio
import logging
import uuid
from contextlib import aclosing
from dataclasses import replace
from enum import Enum, auto
from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import ClientDisconnect

from api.access.caller import Caller
from api.dependencies import CallerDep, Services, ServicesDep, announce, needs
from api.problems import Problem, job_not_found
from api.routes.jobs import cancel
from api.routes.transcripts import build_transcript
from api.uploads.by_address import make_job
from api.uploads.options import validate_options
from db import jobs
from db.models import Job, JobStatus, Scope
from db.queue.transaction import JobGone, job_transaction
from db.sources import MAX_LENGTH
from speech.text.formats import Format, render

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/api", tags=["older shape"])


class TranscribeRequest(BaseModel):
    """A recording by its address. Every option of a job may stand beside it."""

    model_config = ConfigDict(extra="allow")

    file_path: str = Field(
        min_length=1,
        max_length=MAX_LENGTH,
        description="https://…, s3://bucket/key, or a path in the folder that the server is configured with.",
    )


class Transcribed(BaseModel):
    text: str


class Health(BaseModel):
    ok: bool


@router.get("/health", response_model=Health)
def health(caller: CallerDep) -> Health:
    """The process answers, and knows the caller."""
    return Health(ok=True)


@router.post(
    "/transcribe",
    response_model=Transcribed,
    dependencies=[needs(Scope.JOBS_WRITE), needs(Scope.JOBS_READ)],
)
async def transcribe(
    body: TranscribeRequest,
    request: Request,
    response: Response,
    services: ServicesDep,
    caller: CallerDep,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> Transcribed:
    """Transcribe a recording, and answer when it is done. `Location` names the job, which is one like all others.

    A client that hangs up ends the job, since nobody knows of it; unless it sent an `Idempotency-Key`, with which
    it can come back and wait on.
    """
    options = validate_options(body.model_extra or {})
    job, transaction = await to_thread.run_sync(
        partial(make_job, services, caller, body.file_path, options, idempotency_key, files=True)
    )
    if transaction is not None:
        await to_thread.run_sync(announce, services, transaction)
    end = await _wait(services, request, job)
    if end is _End.LEFT:
        if idempotency_key is None:
            await to_thread.run_sync(_cancel, services, job)
        raise ClientDisconnect
    response.headers["Location"] = location = f"/v1/jobs/{job.id}"
    if end is _End.LATE:
        raise Problem(
            504,
            "transcript_not_ready",
            "Transcript not ready",
            f"Job {job.id} takes longer than {services.settings.transcribe_seconds:g} s, and goes on: its "
            f"transcript will be at {location}/transcript.",
            headers={"Location": location},
            job_id=str(job.id),
        )
    return Transcribed(text=await to_thread.run_sync(_text, services, caller, job.id))


class _End(Enum):
    ENDED = auto()
    LEFT = auto()
    LATE = auto()


async def _wait(services: Services, request: Request, job: Job) -> _End:
    """Until the job has ended, the client has hung up, or the time is over. No thread waits meanwhile."""
    ended = asyncio.create_task(_until_end(services, job))
    left = asyncio.create_task(_until_left(request))
    try:
        done, _ = await asyncio.wait(
            {ended, left}, timeout=services.settings.transcribe_seconds, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        for task in (ended, left):
            task.cancel()
        await asyncio.gather(ended, left, return_exceptions=True)
    if ended in done:
        await ended
        return _End.ENDED
    return _End.LEFT if left in done else _End.LATE


async def _until_end(services: Services, job: Job) -> None:
    while True:
        try:
            async with aclosing(services.hub.stream(job.id, job.event_seq)) as events:
                async for _ in events:
                    pass
        except SQLAlchemyError as error:
            logger.warning("waiting for job %s, Postgres is away: %s", job.id, error)
            await asyncio.sleep(1)
        else:
            return


async def _until_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _cancel(services: Services, job: Job) -> None:
    try:
        with job_transaction(services.for_tenant(job.tenant), job.id) as transaction:
            cancel(transaction)
    except (JobGone, Problem):  # deleted or finished meanwhile
        return
    announce(services, transaction)
    logger.info("job %s is cancelled: its client hung up", job.id)


def _text(services: Services, caller: Caller, job_id: uuid.UUID) -> str:
    """What was said, without who said it. Raises Problem if the job did not complete."""
    with services.for_tenant(caller.tenant)() as session:
        job = jobs.get(session, caller.tenant, job_id)
        if job is None:
            raise job_not_found(str(job_id))
        if job.status != JobStatus.COMPLETED:
            raise _failure(job)
        transcript = build_transcript(session, job)
    unnamed = tuple(replace(segment, speaker=None) for segment in transcript.segments)
    return render(replace(transcript, segments=unnamed), Format.TXT).decode().strip()


def _failure(job: Job) -> Problem:
    if job.status == JobStatus.CANCELLED:
        status, code, message = 409, "job_cancelled", f"Job {job.id} was cancelled."
    else:
        code, message = job.error_code or "step_failed", job.error_message or "The job failed."
        status = 422 if code.startswith(("audio_", "url_")) else 500
    if code == "url_unreachable":
        status = 502
    headers = {"Location": f"/v1/jobs/{job.id}"}
    return Problem(status, code, "Not transcribed", message, headers=headers, job_id=str(job.id))
