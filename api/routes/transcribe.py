"""``/api/transcribe`` and ``/api/health``, for clients of an older shape: an address in, a text out."""

from __future__ import annotations

import uuid
from dataclasses import replace
from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.access.caller import Caller
from api.dependencies import CallerDep, Services, ServicesDep, announce, needs
from api.routes.transcripts import build_transcript
from api.uploads.by_address import make_job
from api.uploads.options import validate_options
from api.waiting import completed_job, until_ended
from db.models import Scope
from db.sources import MAX_LENGTH
from speech.text.formats import Format, render

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
    await until_ended(services, request, job, stays=idempotency_key is not None)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return Transcribed(text=await to_thread.run_sync(_text, services, caller, job.id))


def _text(services: Services, caller: Caller, job_id: uuid.UUID) -> str:
    """What was said, without who said it. Raises Problem if the job did not complete."""
    with services.for_tenant(caller.tenant)() as session:
        job = completed_job(session, caller.tenant, job_id)
        transcript = build_transcript(session, job)
    unnamed = tuple(replace(segment, speaker=None) for segment in transcript.segments)
    return render(replace(transcript, segments=unnamed), Format.TXT).decode().strip()
