"""The form fields of a transcription: OpenAI's, and beside them the options of a job."""

from __future__ import annotations

import re
import textwrap
from collections import defaultdict
from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.openai import models, references
from api.problems import Problem, invalid
from api.schemas import Channels, JobOptions, Label
from api.uploads.multipart import FIELD_BYTES
from api.uploads.options import given_options, validate_options

KEPT_DAYS = 1.0
"""How long a job that is not to be kept is there for who comes back for it."""

MAX_HOTWORDS, MAX_HOTWORD_LENGTH = 100, 80


class ResponseFormat(StrEnum):
    JSON = "json"
    TEXT = "text"
    SRT = "srt"
    VTT = "vtt"
    VERBOSE_JSON = "verbose_json"
    DIARIZED_JSON = "diarized_json"


STREAMED = (ResponseFormat.JSON, ResponseFormat.TEXT, ResponseFormat.DIARIZED_JSON)


class Granularity(StrEnum):
    WORD = "word"
    SEGMENT = "segment"


class Fields(BaseModel):
    """OpenAI's fields, and `keep`."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(models.DEFAULT, description="`longhand`, `longhand-draft`, `whisper-1`; see /v1/models.")
    language: str | None = Field(None, description="ISO 639 code; detected if left out.")
    languages: list[str] = Field([], description="One is as `language`; several are ignored.")
    prompt: str = Field("", description="Its words and names are listened for.")
    keywords: list[str] = Field([], description="Words and names to listen for.")
    response_format: ResponseFormat = ResponseFormat.JSON
    stream: bool = Field(False, description="Server-sent events: the text as it becomes final.")
    timestamp_granularities: list[Granularity] = Field(
        [Granularity.SEGMENT], description="Of `verbose_json`: `segment`, `word`, or both."
    )
    known_speaker_names: list[Label] = Field(
        [],
        description="Of these alone `diarized_json` has the names: enrolled voices, or those of the references.",
    )
    known_speaker_references: list[str] = Field(
        [],
        max_length=references.MOST,
        description="Data URLs of 2 to 10 s of each of `known_speaker_names`, who need not be enrolled then.",
    )
    temperature: float | None = Field(None, ge=0, le=1, description="Ignored.")
    chunking_strategy: Any = Field(None, description="Ignored.")
    keep: bool = Field(False, description="The job goes on if the client hangs up, and is not deleted after.")

    @property
    def diarized(self) -> bool:
        return self.response_format is ResponseFormat.DIARIZED_JSON

    @property
    def known_speakers(self) -> dict[str, bytes]:
        """Samples of people, by their names. Raises Problem."""
        if self.known_speaker_references and not self.diarized:
            raise references.unusable("ask for response_format=diarized_json")
        return references.samples(self.known_speaker_names, self.known_speaker_references)


LISTS = frozenset(
    {"languages", "keywords", "timestamp_granularities", "known_speaker_names", "known_speaker_references"}
)


def field_bytes(name: str) -> int:
    """How large the field may be. Raises Problem for what cannot be done, before it is sent."""
    match name.partition("[")[0]:
        case "known_speaker_references":
            return references.MAX_BYTES
        case "include":
            detail = "This server has no log probabilities of tokens; leave include[] out."
            raise Problem(400, "unsupported_parameter", "Unsupported parameter", detail, param="include")
        case _:
            return FIELD_BYTES


def parse_fields(
    pairs: Sequence[tuple[str, str]], behind_http: Collection[str] = (), *, translate: bool = False
) -> tuple[Fields, JobOptions]:
    """OpenAI's fields, and the options of the job that they and the others ask for. Raises Problem.

    ``behind_http``: names of models that `model` may have besides ours.
    """
    own, others = _divide(pairs)
    try:
        fields = Fields.model_validate(own)
    except ValidationError as error:
        raise invalid("invalid_request", "Invalid request", error.errors()) from error
    if fields.stream and fields.response_format not in STREAMED:
        raise Problem(
            422,
            "unsupported_value",
            "Unsupported value",
            f"A stream has no {fields.response_format}; ask for json, text or diarized_json.",
            param="response_format",
        )
    given, implied = given_options(others), _options(fields, behind_http)
    if translate:
        given["translate"] = True
    if given.get("channels") == Channels.SPLIT:
        # every channel is a speaker then
        del implied["diarize"]
    options = validate_options(implied | given)
    if fields.known_speaker_references and fields.diarized and not options.diarize:
        raise references.unusable("nobody asks who speaks with `diarize: false`, nor with channels `split`")
    return fields, options


def _divide(pairs: Sequence[tuple[str, str]]) -> tuple[dict[str, Any], dict[str, str]]:
    """OpenAI's fields, and all others. Clients send lists as ``name[]`` and objects as ``name[key]``."""
    own: dict[str, Any] = {}
    lists: defaultdict[str, list[str]] = defaultdict(list)
    others: dict[str, str] = {}
    for name, value in pairs:
        base = name.partition("[")[0]
        if base not in Fields.model_fields:
            others[name] = value
        elif base in LISTS and value:
            lists[base].append(value)
        elif value:
            own[base] = value
    return own | lists, others


def _options(fields: Fields, behind_http: Collection[str]) -> dict[str, object]:
    options = dict(models.options_of(fields.model, behind_http))
    if fields.diarized:
        options["diarize"] = True
    if not fields.keep:
        options["retain_days"] = KEPT_DAYS
    if language := fields.language or (fields.languages[0] if len(fields.languages) == 1 else None):
        options["language"] = language
    if hotwords := [*_hotwords(fields.prompt), *fields.keywords]:
        options["hotwords"] = hotwords[-MAX_HOTWORDS:]
    return options


def _hotwords(prompt: str) -> list[str]:
    """The phrases of a prompt, each as long as a hotword may be."""
    phrases = re.split(r"[,;\n\u3001\u3002\uff0c\uff1b]|[.!?:](?:\s|$)", prompt)
    cleaned = (re.sub(r"[\x00-\x20\x7f]+", " ", phrase).strip() for phrase in phrases)
    return [part for phrase in cleaned for part in textwrap.wrap(phrase, MAX_HOTWORD_LENGTH)]
