"""``/v1/erasures``: what was erased and is to be, with certificates; and the erasure of a person."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from fastapi import APIRouter, BackgroundTasks, Query, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.cursors import decode_cursor, encode_cursor
from api.dependencies import CallerDep, ServicesDep, SessionDep, Tenant, announce, find_by_id, needs
from api.problems import Problem
from api.routes.voices import find_voice
from api.schemas import JobError
from api.text import Name
from db import voices
from db.erasure import certificates, persons
from db.models import ErasedKind, Erasure, ErasureReason, Job, JobStatus, Scope, StoredVoice, VoiceStatus

LABEL = re.compile(r"SPEAKER_\d+", re.IGNORECASE)

router = APIRouter(prefix="/v1/erasures", tags=["erasures"])


class ErasureRequest(BaseModel):
    """Who is to be erased."""

    model_config = ConfigDict(extra="forbid")

    voice_id: uuid.UUID | None = Field(None, description="An enrolled voice.")
    name: Name | None = Field(None, description="Instead: its name, or one that people gave a speaker.")
    similar: bool = Field(
        False, description="Also where somebody sounds like the voice and was neither matched nor named."
    )
    dry_run: bool = Field(False, description="Tell what would be erased, and erase nothing.")

    @field_validator("name")
    @classmethod
    def _refuse_labels(cls, name: str | None) -> str | None:
        if name is not None and LABEL.fullmatch(name):
            raise ValueError("this is a label that each recording gives to somebody else, and no name")
        return name

    @model_validator(mode="after")
    def _require_one(self) -> Self:
        if (self.voice_id is None) == (self.name is None):
            raise ValueError("give either `voice_id` or `name`")
        return self


class ErasureStatus(StrEnum):
    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


class ErasureView(BaseModel):
    """An erasure. Once it is ``done``, it is the certificate that everything has gone."""

    id: uuid.UUID
    what: ErasedKind
    subject: str = Field(
        description="The id of the job, voice or export that is erased; of the events of many jobs, the tenant."
    )
    reason: ErasureReason
    requested_by: str
    requested_at: datetime
    status: ErasureStatus
    erased_at: datetime | None
    counts: dict[str, int] | None = Field(description="How much has gone, or would.")
    dry_run: bool
    found: list[dict[str, Any]] | None = Field(description="Where a person was found; left out of lists.")
    error: JobError | None

    @classmethod
    def of(cls, erasure: Erasure, error: JobError | None) -> ErasureView:
        status = ErasureStatus.FAILED if error else ErasureStatus.PENDING
        return cls(
            id=erasure.id,
            what=ErasedKind(erasure.what),
            subject=erasure.subject,
            reason=ErasureReason(erasure.reason),
            requested_by=erasure.requested_by,
            requested_at=erasure.requested_at,
            status=status if erasure.erased_at is None else ErasureStatus.DONE,
            erased_at=erasure.erased_at,
            counts=erasure.counts,
            dry_run=erasure.dry_run,
            found=erasure.found,
            error=error,
        )


class ErasurePage(BaseModel):
    data: list[ErasureView]
    next_cursor: str | None


@router.post("", status_code=202, response_model=ErasureView, dependencies=[needs(Scope.ADMIN)])
def erase_person(
    body: ErasureRequest, response: Response, background: BackgroundTasks, services: ServicesDep, caller: CallerDep
) -> ErasureView:
    """Erase a person: voice and voiceprints, name, words, clips in training data, and the recordings with them.

    The answer comes at once; the work goes on in the queue.
    """
    with services.for_tenant(caller.tenant).begin() as session:
        voice = _voice(session, caller.tenant, body)
        if voice is not None and voice.status == VoiceStatus.PENDING:
            detail = f"The voice {voice.id} is being enrolled; wait for it, or delete it."
            raise Problem(409, "voice_pending", "Voice pending", detail)
        if body.similar and (voice is None or not voice.vector):
            detail = "Nobody can be found by similarity without an enrolled voice; leave `similar` out."
            raise Problem(422, "voice_without_voiceprint", "No voiceprint", detail)
        transaction = persons.start_erasure(
            session,
            caller.tenant,
            name=voice.name if voice else body.name or "",
            voice=voice,
            similar=body.similar,
            dry_run=body.dry_run,
            requested_by=caller.actor,
            key_id=caller.key_id,
        )
        (view,) = _views(session, [_find(session, caller.tenant, str(transaction.job.id))])
    background.add_task(announce, services, transaction)
    response.headers["Location"] = f"/v1/erasures/{view.id}"
    return view


def _voice(session: Session, tenant: str, body: ErasureRequest) -> StoredVoice | None:
    if body.voice_id is not None:
        return find_voice(session, tenant, str(body.voice_id))
    return voices.by_name(session, tenant, body.name or "")


@router.get("", response_model=ErasurePage, dependencies=[needs(Scope.JOBS_READ)])
def list_erasures(
    session: SessionDep,
    tenant: Tenant,
    subject: Annotated[
        str | None, Query(max_length=200, description="The id of what was erased, such as a job.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: str | None = None,
) -> ErasurePage:
    """Erasures, newest first. ``next_cursor`` leads to the next page; it is null on the last."""
    after = decode_cursor(cursor) if cursor else None
    found = certificates.page(session, tenant, limit=limit + 1, subject=subject, after=after)
    shown = found[:limit]
    more = len(found) > limit
    return ErasurePage(
        data=[view.model_copy(update={"found": None}) for view in _views(session, shown)],
        next_cursor=encode_cursor(shown[-1].requested_at, shown[-1].id) if more else None,
    )


@router.get("/{erasure_id}", response_model=ErasureView, dependencies=[needs(Scope.JOBS_READ)])
def show_erasure(erasure_id: str, session: SessionDep, tenant: Tenant) -> ErasureView:
    """An erasure, or its certificate."""
    (view,) = _views(session, [_find(session, tenant, erasure_id)])
    return view


def _find(session: Session, tenant: str, erasure_id: str) -> Erasure:
    found = find_by_id(certificates.get, session, tenant, erasure_id)
    if found is None:
        raise Problem(404, "erasure_not_found", "Erasure not found", f"There is no erasure {erasure_id!r}.")
    return found


def _views(session: Session, erasures: Sequence[Erasure]) -> list[ErasureView]:
    failed = session.scalars(
        select(Job).where(Job.id.in_([each.id for each in erasures]), Job.status == JobStatus.FAILED)
    )
    errors = {job.id: JobError.of(job) for job in failed}
    return [ErasureView.of(each, errors.get(each.id)) for each in erasures]
