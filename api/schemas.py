"""Schemas of requests and responses: options, jobs, pages."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic_core import from_json

from api.text import Name
from db.models import Job, JobStatus, Priority, Reading, StoredVoice
from db.sources import MAX_LENGTH, shown_address
from db.webhooks import address
from speech.models.names import HTTP, DiarizeEngine, DraftEngine, RefineEngine, VoiceEngine
from speech.text.languages import LANGUAGES, SENSEVOICE_LANGUAGES
from speech.text.redaction.kinds import PersonalData

MOST_SPEAKERS = 50
MAX_DAYS = 36_525.0
"""A hundred years."""
MAX_SECONDS = MAX_DAYS * 86_400
SENSEVOICE = (DraftEngine.SENSEVOICE, DraftEngine.SENSEVOICE_ONNX)


class RefinePolicy(StrEnum):
    ALWAYS = "always"
    UNCERTAIN = "uncertain"
    NEVER = "never"
    ONLY = "only"


def _split(value: Any) -> Any:
    """Form fields give lists as one line, separated by commas."""
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    return value


def _language(value: Any) -> Any:
    """``auto`` means detection; anything else must be a language that the models know."""
    if value in ("auto", "", None):
        return None
    if not isinstance(value, str) or value not in LANGUAGES:
        raise ValueError(f"{value!r} is no language code known here; use one such as 'en' or 'zh', or 'auto'")
    return value


def _known_language(value: str) -> str:
    if value not in LANGUAGES:
        raise ValueError(f"{value!r} is no language code known here; use one such as 'en' or 'zh'")
    return value


Label = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]+$"),
]


WebhookUrl = Annotated[
    str, StringConstraints(min_length=1, max_length=address.MAX_LENGTH), AfterValidator(address.check_address)
]


class JobWebhook(BaseModel):
    """Where the end of a job is told."""

    model_config = ConfigDict(extra="forbid")

    url: WebhookUrl


KnownLanguage = Annotated[str, AfterValidator(_known_language)]


class SummaryRequest(BaseModel):
    """How a transcript is summarised by a language model."""

    model_config = ConfigDict(extra="forbid")

    template: Label | None = Field(None, description="By its name in `GET /v1/templates`.")
    language: KnownLanguage | None = Field(None, description="Of the summary; else the transcript's.")
    model: Label | None = Field(None, description="A language model of the server; else its first.")


class Channels(StrEnum):
    MIX = "mix"
    SPLIT = "split"


class JobOptions(BaseModel):
    """How to transcribe one recording. An unknown option is an error."""

    model_config = ConfigDict(extra="forbid")

    language: Annotated[str | None, BeforeValidator(_language)] = Field(
        None, description="ISO 639 code, or `auto` (the default) to detect it."
    )
    hotwords: Annotated[list[Label], BeforeValidator(_split)] = Field(
        [], max_length=100, description="Names and terms to listen for."
    )
    digits: bool | None = Field(
        None, description="Write numbers as digits where the models have spelled them out."
    )
    refine: RefinePolicy = Field(
        RefinePolicy.ALWAYS,
        description="Which chunks the strong model reads again after the draft; `only` leaves the draft out, "
        "unless the strong model fails.",
    )
    translate: bool | None = Field(
        None,
        description="Write what is said in English, whatever the language; without drafts, with `refine: only`.",
    )
    degrade_after: float | None = Field(
        None,
        ge=0,
        le=MAX_SECONDS,
        allow_inf_nan=False,
        description="Seconds that a chunk waits for refinement before its draft stands.",
    )
    channels: Channels = Field(
        Channels.MIX, description="`split` transcribes every channel by itself, each as one speaker."
    )
    diarize: bool | None = Field(None, description="Whether to find out who speaks; else the server decides.")
    speakers: int | None = Field(None, ge=1, le=MOST_SPEAKERS, description="Exactly so many people speak.")
    min_speakers: int | None = Field(None, ge=1, le=MOST_SPEAKERS, description="At least so many people speak.")
    max_speakers: int | None = Field(None, ge=1, le=MOST_SPEAKERS, description="At most so many people speak.")
    priority: Priority = Priority.NORMAL
    redact: Annotated[list[PersonalData] | None, BeforeValidator(_split)] = Field(
        None,
        max_length=len(PersonalData),
        description="Personal data to leave out of the transcript, besides what the server or tenant leaves out.",
    )
    source: Label | None = Field(
        None, description="Where the recording comes from, such as a show; training data is sorted by it."
    )
    training: bool | None = Field(
        None, description="`false` keeps the recording out of training data, whatever the server exports."
    )
    retain_days: float | None = Field(
        None,
        gt=0,
        le=MAX_DAYS,
        allow_inf_nan=False,
        description="The finished job is deleted after so many days, instead of the server's number.",
    )
    summarise: SummaryRequest | None = Field(
        None, description="Have the finished transcript summarised; `{}` as the server does by itself."
    )
    webhook: JobWebhook | None = Field(
        None, description="An address that is told the job's end, signed with the tenant's secret."
    )
    draft_engine: DraftEngine | None = Field(None, description="Instead of the server's draft engine.")
    refine_engine: RefineEngine | None = Field(None, description="Instead of the server's refine engine.")
    draft_model: Label | None = Field(
        None, description="A model behind HTTP that drafts, by its name in `GET /v1/models`."
    )
    refine_model: Label | None = Field(
        None, description="A model behind HTTP that refines, by its name in `GET /v1/models`."
    )
    diarize_engine: DiarizeEngine | None = Field(None, description="Instead of the server's diarization.")
    voice_engine: VoiceEngine | None = Field(None, description="Instead of the server's voiceprints.")

    @field_validator("webhook", "summarise", mode="before")
    @classmethod
    def _parse_field(cls, value: Any) -> Any:
        """A form field holds the object as JSON."""
        return from_json(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.speakers is not None and (self.min_speakers is not None or self.max_speakers is not None):
            raise ValueError("give either `speakers`, or `min_speakers` and `max_speakers`")
        if self.channels is Channels.SPLIT and (self.diarize or self.speakers or self.min_speakers):
            raise ValueError(
                "with channels `split` each channel is one speaker; leave out `diarize` and the number of speakers"
            )
        if self.min_speakers and self.max_speakers and self.min_speakers > self.max_speakers:
            raise ValueError(f"min_speakers {self.min_speakers} is more than max_speakers {self.max_speakers}")
        if self.translate and self.refine is not RefinePolicy.ONLY:
            if "refine" in self.model_fields_set:
                raise ValueError("only the strong model translates; leave `refine` out, or say `only`")
            self.refine = RefinePolicy.ONLY
        if self.translate and (self.refine_model or self.refine_engine not in (None, RefineEngine.WHISPER)):
            other = self.refine_model or self.refine_engine
            raise ValueError(f"{other} does not translate; leave refine_model and refine_engine out")
        for role, engine, model in (
            ("draft", self.draft_engine, self.draft_model),
            ("refine", self.refine_engine, self.refine_model),
        ):
            if model is not None and engine not in (None, HTTP):
                raise ValueError(f"{role}_model is one behind HTTP; leave {role}_engine out, or let it be `http`")
        drafted = self.draft_engine not in SENSEVOICE or self.language in (None, *SENSEVOICE_LANGUAGES)
        if self.draft_engine is not None and not drafted:
            known = ", ".join(sorted(SENSEVOICE_LANGUAGES))
            raise ValueError(f"{self.draft_engine.value} knows {known}, and not {self.language}")
        return self


def _once(tags: list[str]) -> list[str]:
    return list(dict.fromkeys(tags))


def _unless_empty(value: Any) -> Any:
    return value or None


def _shown(address: str | None) -> str | None:
    return None if address is None else shown_address(address)


def _shown_options(options: dict[str, Any]) -> dict[str, Any]:
    """The address of a webhook is shown without its query, which may be a credential."""
    webhook = options.get("webhook")
    return options if webhook is None else options | {"webhook": {"url": shown_address(webhook["url"])}}


class Audio(BaseModel):
    filename: str
    bytes: Annotated[int | None, BeforeValidator(_unless_empty)] = Field(
        description="Null, like `sha256`, until a recording that was named by its address is fetched."
    )
    sha256: Annotated[str | None, BeforeValidator(_unless_empty)]
    source_url: Annotated[str | None, BeforeValidator(_shown)] = Field(
        description="Where the recording was fetched from, without user, password and query."
    )
    duration: float | None
    sample_rate: int | None
    channels: int | None
    erased_at: datetime | None = Field(
        validation_alias="audio_erased_at", description="When the recording was removed; the transcript stays."
    )


class Progress(BaseModel):
    chunks: int
    drafted: int
    refined: int
    final: int
    percent: int


class JobError(BaseModel):
    code: str
    message: str

    @classmethod
    def of(cls, row: Job | StoredVoice | Reading) -> JobError | None:
        return cls(code=row.error_code, message=row.error_message or "") if row.error_code else None


class Urls(BaseModel):
    self: str
    events: str
    transcript: str
    audio: str


class JobView(BaseModel):
    """A job as the API shows it."""

    id: UUID
    title: str | None = Field(description="What people call it; the file's name is in `audio`.")
    tags: list[str]
    status: JobStatus
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    audio: Audio
    language: str | None
    options: dict[str, Any]
    progress: Progress
    models: dict[str, Any]
    degraded: bool
    error: JobError | None
    urls: Urls

    @classmethod
    def of(cls, job: Job) -> JobView:
        url = f"/v1/jobs/{job.id}"
        return cls(
            id=job.id,
            title=job.title,
            tags=job.tags,
            status=job.status,
            created_at=job.created_at,
            started_at=job.started_at,
            completed_at=job.completed_at,
            audio=Audio.model_validate(job, from_attributes=True),
            language=job.language,
            options=_shown_options(job.options),
            progress=Progress.model_validate(job, from_attributes=True),
            models={"draft": None, "refine": None, "diarize": None, "embed": None} | job.models,
            degraded=job.degraded,
            error=JobError.of(job),
            urls=Urls(self=url, events=f"{url}/events", transcript=f"{url}/transcript", audio=f"{url}/audio"),
        )


class JobRequest(BaseModel):
    """A recording that the server is to fetch, or that was uploaded before."""

    model_config = ConfigDict(extra="forbid")

    audio_url: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_LENGTH,
        description="https://… or http://…; s3://bucket/key where the server allows the bucket.",
    )
    upload_id: UUID | None = Field(None, description="Of an upload that is complete.")
    options: JobOptions = Field(default_factory=JobOptions)

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if (self.audio_url is None) == (self.upload_id is None):
            raise ValueError("give either `audio_url` or `upload_id`")
        return self


MAX_TAGS = 50


class JobChange(BaseModel):
    """What people call a recording, and how they sort it. What is left out stays; null removes it."""

    model_config = ConfigDict(extra="forbid")

    title: Name | None = None
    tags: Annotated[list[Label], Field(max_length=MAX_TAGS), AfterValidator(_once)] | None = Field(
        None, description="All of its tags."
    )
    source: Label | None = Field(None, description="Where the recording comes from, such as a show.")

    @model_validator(mode="after")
    def _require_any(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("give `title`, `tags` or `source`")
        return self


class JobPage(BaseModel):
    data: list[JobView]
    next_cursor: str | None


class SpeakerEnrolment(BaseModel):
    """A speaker of a transcript to enrol, whose voiceprint is there."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    job_id: UUID
    speaker: Name = Field(description="The label.")
