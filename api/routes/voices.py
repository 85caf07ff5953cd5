"""``/v1/voices``: people whom transcripts identify by name."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Self

from anyio import to_thread
from fastapi import APIRouter, BackgroundTasks, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from sqlalchemy.orm import Session

from api.access.caller import Caller
from api.dependencies import CallerDep, Services, ServicesDep, SessionDep, Tenant, announce, find_by_id, needs
from api.editing import Editor, EditorDep
from api.named import naming
from api.openapi import reference
from api.problems import Problem, invalid, voice_not_found
from api.routes.jobs import delete
from api.routes.speakers import announce_speakers, find_speaker
from api.schemas import JobError, SpeakerEnrolment
from api.text import Name
from api.uploads.json_body import is_json, read_json
from api.uploads.multipart import Form
from api.uploads.receive import form_body, receive_upload
from db import jobs, speakers, voices
from db.access import quotas
from db.models import Job, Scope, StoredVoice, VoiceStatus
from db.objects.writer import ObjectWriter
from db.queue.transaction import JobGone, JobTransaction, job_transaction

router = APIRouter(prefix="/v1/voices", dependencies=[needs(Scope.VOICES)], tags=["voices"])

NAME: TypeAdapter[str] = TypeAdapter(Name)


UPLOAD_BODY = form_body(["name", "file"], name={"type": "string", "maxLength": 200})
UPLOAD_BODY["requestBody"]["content"]["application/json"] = {"schema": reference(SpeakerEnrolment)}


class VoiceView(BaseModel):
    """A voice as the API shows it, without its vector."""

    id: uuid.UUID
    name: str
    status: VoiceStatus
    created_at: datetime
    seconds: float | None
    model: str | None
    training: bool
    error: JobError | None

    @classmethod
    def of(cls, voice: StoredVoice) -> VoiceView:
        return cls(
            id=voice.id,
            name=voice.name,
            status=voice.status,
            created_at=voice.created_at,
            seconds=voice.seconds,
            model=voice.model,
            training=voice.training,
            error=JobError.of(voice),
        )


class VoicePage(BaseModel):
    data: list[VoiceView]


class HeardView(BaseModel):
    """Where a voice was heard: its longest stretch in a recording."""

    job_id: uuid.UUID
    filename: str
    start: float
    end: float
    text: str


class HeardPage(BaseModel):
    data: list[HeardView]


class VoiceChange(BaseModel):
    """The changes; at least one of the two."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    training: bool | None = Field(None, description="Whether the person may be heard in training data.")

    @model_validator(mode="after")
    def _require_any(self) -> Self:
        if self.name is None and self.training is None:
            raise ValueError("give `name`, `training`, or both")
        return self


@router.post("", status_code=202, response_model=VoiceView, openapi_extra=UPLOAD_BODY)
async def enrol_voice(
    request: Request,
    response: Response,
    background: BackgroundTasks,
    services: ServicesDep,
    caller: CallerDep,
    editor: EditorDep,
) -> VoiceView:
    """Enrol a voice from a recording of one person, with five seconds of speech at least, or from a transcript.

    The answer comes as soon as the recording is stored; ``status`` tells when the voice is ready, or why not.
    The recording itself is not kept. The voice of a speaker of a transcript is ready at once, and the speaker gets
    its name; that takes the scope `jobs:write`, too.
    """
    if is_json(request):
        caller.require([Scope.JOBS_WRITE])
        wanted = await read_json(request, SpeakerEnrolment)
        view = await to_thread.run_sync(_enrol_speaker, editor, wanted)
        response.headers["Location"] = f"/v1/voices/{view.id}"
        return view

    def check(form: Form) -> None:
        if form.fields:
            _voice_name(form.fields)

    def create_rows(form: Form, writer: ObjectWriter, job_id: uuid.UUID) -> tuple[StoredVoice, JobTransaction]:
        return _insert(services, caller, form, writer, job_id)

    voice, transaction = await receive_upload(request, services, caller.tenant, create_rows, check)
    background.add_task(announce, services, transaction)
    response.headers["Location"] = f"/v1/voices/{voice.id}"
    return VoiceView.of(voice)


def _enrol_speaker(editor: Editor, wanted: SpeakerEnrolment) -> VoiceView:
    """Raises Problem."""
    with naming("voice", wanted.name), editor.change(str(wanted.job_id)) as tx:
        speaker = find_speaker(tx, wanted.speaker)
        model, seconds = voices.voiceprint_model(tx.job), speakers.seconds(tx.session, speaker)
        if not speaker.vector or not model:
            detail = f"The voice of {wanted.speaker!r} was not told apart by its sound; enrol a recording."
            raise Problem(422, "voice_without_voiceprint", "Voice without voiceprint", detail)
        if seconds < voices.MIN_SPEECH_SECONDS:
            detail = f"Only {seconds:.1f} s are heard; a voice takes {voices.MIN_SPEECH_SECONDS:g} s or more."
            raise Problem(422, "voice_too_short", "Voice too short", detail)
        voice = voices.enrol_speaker(tx, speaker, wanted.name, model, seconds)
        announce_speakers(tx)
        return VoiceView.of(voice)


def _insert(
    services: Services, caller: Caller, form: Form, writer: ObjectWriter, job_id: uuid.UUID
) -> tuple[StoredVoice, JobTransaction]:
    name = _voice_name(form.fields)
    voice = StoredVoice(id=uuid.uuid4(), tenant=caller.tenant, name=name)
    writer.close()
    try:
        with naming("voice", name), services.for_tenant(caller.tenant).begin() as session:
            quotas.admit_upload(session, services.settings, caller.tenant, writer.size)
            session.add(voice)
            session.flush()
            job = Job(
                id=job_id,
                tenant=caller.tenant,
                key_id=caller.key_id,
                filename=form.filename or "",
                bytes=writer.size,
                sha256=writer.sha256,
                source_key=writer.key,
                voice_id=voice.id,
                diarize=True,
                options={},
            )
            transaction = jobs.create(session, job)
            session.refresh(voice)
    except (quotas.QuotaExceeded, Problem):
        services.storage.delete([writer.key])
        raise
    return voice, transaction


def _voice_name(fields: dict[str, str]) -> str:
    """Raises Problem."""
    if unknown := sorted(set(fields) - {"name"}):
        detail = f"Unknown field {', '.join(map(repr, unknown))}; send `name` and `file`."
        raise Problem(422, "invalid_request", "Invalid request", detail)
    try:
        return NAME.validate_python(fields.get("name", ""))
    except ValidationError as error:
        wrong = [{**found, "loc": ("name",)} for found in error.errors()]
        raise invalid("invalid_request", "Invalid request", wrong) from error


@router.get("", response_model=VoicePage)
def list_voices(session: SessionDep, tenant: Tenant) -> VoicePage:
    """All voices, by name."""
    return VoicePage(data=[VoiceView.of(voice) for voice in voices.page(session, tenant)])


@router.get("/{voice_id}", response_model=VoiceView)
def show_voice(voice_id: str, session: SessionDep, tenant: Tenant) -> VoiceView:
    return VoiceView.of(find_voice(session, tenant, voice_id))


@router.get("/{voice_id}/heard", response_model=HeardPage, dependencies=[needs(Scope.JOBS_READ)])
def list_heard(
    voice_id: str, session: SessionDep, tenant: Tenant, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> HeardPage:
    """Recordings that the voice was found in, newest first: to listen to it, as its enrolment is not kept."""
    voice = find_voice(session, tenant, voice_id)
    found = voices.heard(session, tenant, voice.id, limit)
    return HeardPage(data=[HeardView.model_validate(heard, from_attributes=True) for heard in found])


@router.patch("/{voice_id}", response_model=VoiceView)
def change_voice(voice_id: str, new: VoiceChange, session: SessionDep, tenant: Tenant) -> VoiceView:
    """Give a voice another name, or say whether it may be trained on. Stored transcripts keep the old name."""
    voice = find_voice(session, tenant, voice_id)
    if new.training is not None:
        voice.training = new.training
    with naming("voice", new.name or voice.name):
        if new.name is not None:
            voices.rename(session, voice, new.name)
        session.commit()
    return VoiceView.of(voice)


@router.delete("/{voice_id}", status_code=204)
def delete_voice(
    voice_id: str, services: ServicesDep, session: SessionDep, caller: CallerDep, background: BackgroundTasks
) -> None:
    """Forget a voice and its vector. Transcripts that are stored already keep the name.

    To remove the person from them, too, call `POST /v1/erasures` instead: it can no longer find by a voice that is
    forgotten.
    """
    voice = find_voice(session, caller.tenant, voice_id)
    if (enrolling := voices.enrolment_job(session, voice.id)) is not None:
        try:
            with job_transaction(services.for_tenant(caller.tenant), enrolling) as transaction:
                delete(transaction, caller.actor)
            background.add_task(announce, services, transaction)
        except JobGone:
            pass
    voices.delete(session, voice)
    session.commit()


def find_voice(session: Session, tenant: str, voice_id: str) -> StoredVoice:
    found = find_by_id(voices.get, session, tenant, voice_id)
    if found is None:
        raise voice_not_found(voice_id)
    return found
