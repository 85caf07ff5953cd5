"""The messages of ``/ws/stream``, whose JSON schemas are published."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, model_validator

from api.schemas import Channels, JobOptions, RefinePolicy
from live.audio import MAX_CHANNELS, MAX_RATE, MIN_RATE
from speech.text.languages import LANGUAGES

FLOW_ID = r"^[A-Za-z0-9._:-]{1,128}$"
Codec = Literal["pcm_s16le", "opus", "webm"]
Returned = Literal["lid", "asr", "record_url"]


class _Message(BaseModel):
    """Fields that are unknown here are of a newer version, and left alone."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)


class AudioFormat(_Message):
    codec: Codec = Field("pcm_s16le", description="`opus` is in Ogg; `webm` as a browser's MediaRecorder has it.")
    sr: int = Field(16_000, ge=MIN_RATE, le=MAX_RATE, description="Hertz, of PCM.")
    channels: int = Field(1, ge=1, le=MAX_CHANNELS, description="Of PCM; they are mixed.")
    chunk_ms: int | None = Field(None, description="Frames may have any length; this is not needed.")


class LiveOptions(JobOptions):
    """Those of any job."""

    refine: RefinePolicy = Field(
        RefinePolicy.ONLY, description="Its finals are drafts already, so chunks go to the strong model at once."
    )

    @model_validator(mode="after")
    def _check_live(self) -> LiveOptions:
        if self.channels is Channels.SPLIT or self.webhook is not None:
            raise ValueError("a live session takes neither channels `split` nor a webhook of its own")
        return self


def _language(value: Any) -> Any:
    """The language that a user prefers, such as `en-GB`; None where it is `auto` or not known here."""
    code = value.split("-")[0].lower() if isinstance(value, str) else None
    return code if code in LANGUAGES else None


class Hints(_Message):
    domain: str | None = Field(None, max_length=80, description="Chooses among engines, where there are several.")
    user_lang_pref: Annotated[str | None, BeforeValidator(_language)] = Field(
        None, description="Language code, or `auto`."
    )


class Auth(_Message):
    token: str | None = Field(None, max_length=8192, description="A token or a key, where no header can be set.")


class Start(_Message):
    """Begins a session, or goes on with one."""

    type: Literal["start"] = "start"
    flowId: str | None = Field(
        None, pattern=FLOW_ID, description="Names the session; made up where it is left out."
    )
    after: int | None = Field(
        None, ge=0, description="Goes on with the session of this `flowId`: the `seq` of the last final that came."
    )
    audio: AudioFormat = AudioFormat()
    returned: list[Returned] = Field(["lid", "asr", "record_url"], alias="return")
    hints: Hints = Hints()
    auth: Auth = Auth()
    options: LiveOptions = LiveOptions()

    @model_validator(mode="after")
    def _check_after(self) -> Start:
        if self.after is not None and self.flowId is None:
            raise ValueError("`after` goes on with a session: name it by its `flowId`")
        return self


class Flush(_Message):
    """Makes all that was said final. The session ends where nothing follows for a while."""

    type: Literal["flush"]


class End(_Message):
    """Makes all final, and ends the session."""

    type: Literal["end", "stop"]


Incoming = Annotated[Start | Flush | End, Field(discriminator="type")]
incoming: TypeAdapter[Start | Flush | End] = TypeAdapter(Incoming)


class _Event(BaseModel):
    flowId: str


class Ack(_Event):
    """The session is open; then, that more of it is stored."""

    type: Literal["ack"] = "ack"
    job_id: str
    received: int = Field(
        description="Milliseconds of sound that came: a connection that goes on sends what follows."
    )
    stored: int = Field(description="Milliseconds that are stored: a client may forget them.")


class TimedWord(BaseModel):
    text: str
    start: float
    end: float
    confidence: float
    glued: bool = Field(False, description="Whether no space separates it from the word before.")


class Lid(_Event):
    type: Literal["lid"] = "lid"
    language: str
    probability: float | None


class AsrPartial(_Event):
    """What an utterance is so far. `stable` is never revised, only continued; `unstable` may be."""

    type: Literal["asr_partial"] = "asr_partial"
    utterance: int
    text: str
    stable: str
    unstable: str
    end: float = Field(description="Seconds of the session up to which sound was heard.")


class AsrFinal(_Event):
    """An utterance that is over. Its text begins with what was stable of it."""

    type: Literal["asr_final"] = "asr_final"
    seq: int = Field(description="Counts the finals of the session from 1: what `after` means.")
    utterance: int
    start: float
    end: float
    text: str
    words: list[TimedWord]
    language: str | None
    confidence: float


class RecordUrl(_Event):
    """Where the recording will be, once it is put together."""

    type: Literal["record_url"] = "record_url"
    job_id: str
    url: str


class Metrics(_Event):
    type: Literal["metrics"] = "metrics"
    partials: int
    finals: int
    left_to_the_queue: int = Field(description="Times that utterances were left to the queue, as ASR was busy.")
    audio_seconds: float
    stored_seconds: float
    session_seconds: float
    first_partial_seconds: float | None


class Ended(_Event):
    type: Literal["end"] = "end"
    job_id: str
    reason: str


class Error(_Event):
    """What is wrong. Where it is fatal the connection closes, with the code as the reason."""

    type: Literal["error"] = "error"
    code: str
    message: str
    fatal: bool


class SimplePartial(BaseModel):
    """All that was said so far, to a client that sends nothing but sound."""

    partial: str


class SimpleFinal(BaseModel):
    """All that was said, at the end."""

    final: str


Outgoing = Annotated[
    Ack | Lid | AsrPartial | AsrFinal | RecordUrl | Metrics | Ended | Error, Field(discriminator="type")
]


def schemas() -> dict[str, Any]:
    """JSON schemas: what clients send, what they are sent, and what those are sent that send nothing but sound."""
    return {
        "client": TypeAdapter(Incoming).json_schema(),
        "server": TypeAdapter(Outgoing).json_schema(mode="serialization"),
        "simple": TypeAdapter(SimplePartial | SimpleFinal).json_schema(mode="serialization"),
    }
