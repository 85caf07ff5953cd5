"""``/v1/audio`` and ``/v1/models``, for clients of OpenAI's API."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Annotated, Any, Literal

from anyio import CancelScope, to_thread
from fastapi import APIRouter, BackgroundTasks, Header, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from api.access.caller import Caller
from api.dependencies import CallerDep, Services, ServicesDep, announce, for_every_caller, needs
from api.events import EventResponse
from api.openai import answers, models
from api.openai.errors import RESPONSES
from api.openai.fields import LISTS, Fields, ResponseFormat, field_bytes, parse_fields
from api.openai.stream import TextStream
from api.openapi import properties
from api.options import check_options
from api.problems import Problem
from api.routes.jobs import delete
from api.routes.transcripts import build_transcript
from api.schemas import JobOptions
from api.uploads.by_file import receive_job
from api.uploads.multipart import Form
from api.uploads.receive import form_body
from api.waiting import completed_job, until_ended
from db import transcripts, voices
from db.models import Job, Scope, VoiceStatus
from db.queue.transaction import JobGone, job_transaction
from speech.text.formats import Format
from speech.text.rendering.prose import join_segments
from speech.text.transcript import Transcript
from speech.text.words import Source

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/v1", tags=["OpenAI's clients"], responses=RESPONSES)

UPLOAD_PATIENCE_SECONDS = 10.0
"""A client that waits for its transcript anyway waits for a free slot too, instead of sending the file again."""

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "application/json": {"schema": {"type": "object", "required": ["text"]}},
            **{
                media: {"schema": {"type": "string"}}
                for media in ("text/plain", "application/x-subrip", "text/vtt")
            },
            "text/event-stream": {"schema": {"type": "string"}},
        }
    }
}

FORM = properties(JobOptions) | {
    f"{name}[]" if name in LISTS else name: schema for name, schema in properties(Fields).items()
}
"""What may stand beside `file`."""


IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=255)]


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = models.CREATED
    owned_by: str = "longhand"


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/models", response_model=ModelList, dependencies=[for_every_caller()])
def list_models(services: ServicesDep) -> ModelList:
    """The names that `model` may have: ours, those of OpenAI's that mean the same, and models behind HTTP.

    The last may also be the `draft_model` or `refine_model` of a job.
    """
    return ModelList(data=[Model(id=name) for name in (*models.MODELS, *models.names(services.endpoints))])


@router.get("/models/{model}", response_model=Model, dependencies=[for_every_caller()])
def show_model(model: str, services: ServicesDep) -> Model:
    models.options_of(model, models.names(services.endpoints))
    return Model(id=model)


@router.post(
    "/audio/transcriptions",
    response_class=Response,
    responses=ANSWERS,
    openapi_extra=form_body(["file"], **FORM),
    dependencies=[needs(Scope.JOBS_WRITE)],
)
async def create_transcription(
    request: Request,
    background: BackgroundTasks,
    services: ServicesDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Transcribe a recording, and answer when that is done, as OpenAI's `audio.transcriptions.create` does.

    It is a job like all others, whose options may stand beside OpenAI's fields. Unless `keep` is set, or an
    `Idempotency-Key` sent, it is cancelled when the client hangs up, and deleted after the answer.
    """
    return await _create(request, background, services, caller, idempotency_key, translate=False)


@router.post(
    "/audio/translations",
    response_class=Response,
    responses=ANSWERS,
    openapi_extra=form_body(["file"], **FORM),
    dependencies=[needs(Scope.JOBS_WRITE)],
)
async def create_translation(
    request: Request,
    background: BackgroundTasks,
    services: ServicesDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """The same in English, whatever is spoken, as OpenAI's `audio.translations.create` does."""
    return await _create(request, background, services, caller, idempotency_key, translate=True)


async def _create(
    request: Request,
    background: BackgroundTasks,
    services: Services,
    caller: Caller,
    idempotency_key: str | None,
    *,
    translate: bool,
) -> Response:
    def parse(form: Form) -> tuple[Fields, JobOptions]:
        return parse_fields(form.pairs, models.names(services.endpoints), translate=translate)

    def check(form: Form) -> None:
        check_options(services.endpoints, caller, parse(form)[1])

    parsed: list[Fields] = []

    def options_of(form: Form) -> JobOptions:
        fields, options = parse(form)
        _check_names(services, caller, fields)
        parsed.append(fields)
        return options

    job, transaction = await receive_job(
        request,
        services,
        caller,
        idempotency_key,
        options_of,
        check,
        field_bytes=field_bytes,
        known_speakers=lambda: parsed[0].known_speakers,
        patience=UPLOAD_PATIENCE_SECONDS,
    )
    (fields,) = parsed
    if transaction is not None:
        await to_thread.run_sync(announce, services, transaction)
    stays = fields.keep or idempotency_key is not None
    headers = {"x-request-id": str(job.id)} | ({"Location": f"/v1/jobs/{job.id}"} if stays else {})
    if fields.stream:
        events = TextStream(services, caller, job, fields).events()
        slot = nullcontext() if stays else _forgotten_after(services, job)
        return EventResponse(events, services.settings.stall_seconds, slot, headers)
    try:
        await until_ended(services, request, job, stays=stays)
        answer = await to_thread.run_sync(_answer, services, job, fields)
    except Exception as error:
        if isinstance(error, Problem):
            error.headers["x-request-id"] = str(job.id)
            if error.status == 504:  # the job goes on
                raise
        if not stays:
            await to_thread.run_sync(_forget, services, job)
            if isinstance(error, Problem):
                error.headers.pop("Location", None)
        raise
    if not stays:
        background.add_task(_forget, services, job)
    answer.headers.update(headers)
    return answer


def _check_names(services: Services, caller: Caller, fields: Fields) -> None:
    """Raises Problem unless all known speakers are enrolled."""
    if not fields.known_speaker_names or fields.known_speaker_references:
        return
    with services.for_tenant(caller.tenant)() as session:
        known = {voice.name for voice in voices.page(session, caller.tenant) if voice.status == VoiceStatus.READY}
    if missing := ", ".join(map(repr, sorted(set(fields.known_speaker_names) - known))):
        detail = (
            f"No enrolled voice is called {missing}; enrol it, or send a sample in known_speaker_references[]."
        )
        raise Problem(422, "voice_not_found", "Voice not found", detail, param="known_speaker_names")


def _answer(services: Services, job: Job, fields: Fields) -> Response:
    """Raises Problem if the job did not complete."""
    with services.for_tenant(job.tenant)() as session:
        found = completed_job(session, job.tenant, job.id)
        transcript = build_transcript(session, found)
        return _render(session, transcript, found, fields)


def _render(session: Session, transcript: Transcript, job: Job, fields: Fields) -> Response:
    match fields.response_format:
        case ResponseFormat.JSON:
            return JSONResponse(answers.plain(transcript))
        case ResponseFormat.VERBOSE_JSON:
            chunks = _heard_chunks(session, job.id)
            translated = bool(job.options.get("translate"))
            granularities = fields.timestamp_granularities
            return JSONResponse(answers.verbose(transcript, chunks, granularities, translated=translated))
        case ResponseFormat.DIARIZED_JSON:
            return JSONResponse(answers.diarized(transcript, fields.known_speaker_names))
        case ResponseFormat.TEXT:
            return PlainTextResponse(join_segments(transcript.segments) + "\n")
        case ResponseFormat.SRT | ResponseFormat.VTT:
            format_ = Format(fields.response_format.value)
            body = answers.subtitles(transcript, format_, speakers=job.diarize)
            return Response(body, media_type=format_.media_type)


def _heard_chunks(session: Session, job_id: uuid.UUID) -> dict[int, answers.HeardChunk]:
    signals = transcripts.signals(session, job_id)
    return {
        index: answers.HeardChunk(start, {Source(role): found for role, found in signals.get(index, {}).items()})
        for index, start in transcripts.chunk_starts(session, job_id).items()
    }


ANSWERED = "answered"
"""Who asks for the deletion of a job that is not to be kept."""


@asynccontextmanager
async def _forgotten_after(services: Services, job: Job) -> AsyncIterator[None]:
    """Delete the job in the end, however far its events were read: they may never have begun."""
    try:
        yield
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(_forget, services, job)


def _forget(services: Services, job: Job) -> None:
    """Delete the job, as its user would, which cancels it if it has not ended."""
    try:
        with job_transaction(services.for_tenant(job.tenant), job.id) as transaction:
            if transaction.job.deleted_at is not None:
                return
            delete(transaction, ANSWERED)
    except JobGone:
        return
    except SQLAlchemyError as error:
        logger.warning("job %s is left to its retention: %s", job.id, error)
        return
    announce(services, transaction)
