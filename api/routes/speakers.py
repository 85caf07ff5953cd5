"""The speakers of a transcript, as people name, identify and merge them."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.orm import Session

from api.dependencies import needs
from api.editing import EditorDep
from api.problems import Problem, voice_not_found
from api.text import Name
from api.transcript_views import SpeakerView
from db import speakers, voices
from db.models import EventType, Scope, StoredSpeaker
from db.queue.transaction import JobTransaction

router = APIRouter(prefix="/v1/jobs/{job_id}/speakers", dependencies=[needs(Scope.JOBS_WRITE)], tags=["speakers"])


class SpeakerChange(BaseModel):
    """Who a speaker is: a name, or a voice, whose name it takes. Null forgets either."""

    model_config = ConfigDict(extra="forbid")

    label: Name
    name: Name | None = None
    voice_id: uuid.UUID | None = None

    @model_validator(mode="after")
    def _require_one(self) -> SpeakerChange:
        if len(self.model_fields_set & {"name", "voice_id"}) != 1:
            raise ValueError("give either `name` or `voice_id`")
        return self


class SpeakerMerge(BaseModel):
    """Two labels of one person."""

    model_config = ConfigDict(extra="forbid")

    label: Name = Field(description="The label that goes.")
    into: Name = Field(description="The label that stays.")

    @model_validator(mode="after")
    def _require_two(self) -> SpeakerMerge:
        if self.label == self.into:
            raise ValueError("`label` and `into` are the same")
        return self


class SpeakersView(BaseModel):
    speakers: list[SpeakerView]


@router.patch("", response_model=SpeakersView)
def change_speaker(job_id: str, change: SpeakerChange, editor: EditorDep) -> dict[str, Any]:
    """Name a speaker everywhere, or say whose enrolled voice it is. ``speakers.changed`` is announced."""
    with editor.change(job_id) as tx:
        speaker = find_speaker(tx, change.label)
        if change.voice_id is not None:
            _identify(tx.session, speaker, change.voice_id)
        else:
            speakers.rename(tx.session, speaker, change.name)
        return announce_speakers(tx)


@router.post("/merge", response_model=SpeakersView)
def merge_speakers(job_id: str, merge: SpeakerMerge, editor: EditorDep) -> dict[str, Any]:
    """Give one speaker all that another one said. ``speakers.changed`` is announced."""
    with editor.change(job_id) as tx:
        speakers.merge(tx.session, find_speaker(tx, merge.label), find_speaker(tx, merge.into))
        return announce_speakers(tx, {"label": merge.label, "into": merge.into})


def find_speaker(tx: JobTransaction, label: str) -> StoredSpeaker:
    """Raises Problem."""
    speaker = speakers.find(tx.session, tx.job.id, label)
    if speaker is None:
        detail = f"Nobody speaks as {label!r} in job {tx.job.id}."
        raise Problem(404, "speaker_not_found", "Speaker not found", detail)
    return speaker


def _identify(session: Session, speaker: StoredSpeaker, voice_id: uuid.UUID) -> None:
    """Raises Problem."""
    voice = voices.hold(session, session.info["tenant"], voice_id)
    if voice is None:
        raise voice_not_found(str(voice_id))
    other = speakers.with_voice(session, speaker.job_id, voice_id)
    if other is not None and other.label != speaker.label:
        detail = f"{voice.name!r} speaks as {other.label!r} already; merge the two speakers instead."
        raise Problem(409, "voice_assigned", "Voice assigned", detail)
    speaker.name, speaker.voice_id, speaker.score = voice.name, voice.id, None


def announce_speakers(tx: JobTransaction, merged: dict[str, str] | None = None) -> dict[str, Any]:
    tx.session.flush()
    data = {"speakers": speakers.of_job(tx.session, tx.job.id)}
    tx.emit(EventType.SPEAKERS_CHANGED, data | {"merged": merged})
    return data
