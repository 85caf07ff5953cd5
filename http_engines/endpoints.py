"""The operators' file of models behind HTTP (``LONGHAND_ENDPOINTS``): what it may say, and reading it."""

from __future__ import annotations

import logging
import os
import threading
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from http_engines.errors import InvalidEndpoints
from speech.asr.qwen import LANGUAGES as QWEN_LANGUAGES
from speech.models.names import DraftEngine, RefineEngine
from speech.text.languages import LANGUAGES

logger = logging.getLogger(__name__)

WHISPER = "whisper"
"""In ``aligners``: the Whisper of LONGHAND_REFINE_MODEL, on the worker itself."""

MOST_SECONDS = 600
"""That a chunk may keep a worker waiting for a server, all attempts together: audio by URL can be had for longer,
and so can the lease of a batch."""

RESERVED = {WHISPER, *DraftEngine, *RefineEngine}
LONGEST_CHUNK_SECONDS = 30
ADDRESS = TypeAdapter(HttpUrl)


class Shape(StrEnum):
    """The two forms in which servers take audio and give text."""

    CHAT = "chat"
    TRANSCRIPTIONS = "transcriptions"


def _host(value: str) -> str:
    """Without what a path of its own, or credentials, would add."""
    url = ADDRESS.validate_python(value)
    if url.username or url.password:
        raise ValueError("credentials do not belong into an address: use key_env or key_file")
    if url.query or url.fragment:
        raise ValueError("is a server's address, without `?` and `#`")
    return value.rstrip("/").removesuffix("/v1")


def _language(value: str) -> str:
    if value not in LANGUAGES:
        raise ValueError(f"{value!r} is no language code known here; use one such as 'en' or 'zh'")
    return value


Host = Annotated[str, AfterValidator(_host)]
Language = Annotated[str, AfterValidator(_language)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,79}$")]


class Server(BaseModel):
    """One model on one or several hosts. Unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    most_seconds: ClassVar[float] = MOST_SECONDS

    name: Name
    """What jobs and settings call it."""
    model: str = Field("", max_length=300)
    """What its servers call it; the name, if that is the same."""
    hosts: Annotated[tuple[Host, ...], Field(min_length=1, max_length=64)]
    languages: tuple[Language, ...] = ()
    concurrency: int = Field(16, ge=1, le=1024)
    """Requests that one worker has under way at one host."""
    base_seconds: float = Field(10, gt=0, le=600)
    seconds_per_second: float = Field(1, ge=0, le=60)
    """A request may take ``base_seconds``, and so many for each second of audio."""
    retries: int = Field(2, ge=0, le=10)
    key_env: str = Field("", pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")
    key_file: Path | None = None
    """Where the API key is found: the name of a variable, or a file, which is read anew for each request."""

    @model_validator(mode="after")
    def _check_server(self) -> Self:
        if self.name in RESERVED:
            raise ValueError(f"{self.name!r} is the name of an engine; choose another")
        if len(set(self.hosts)) < len(self.hosts):
            raise ValueError("a host stands there twice")
        if self.key_env and self.key_file:
            raise ValueError("give either key_env or key_file")
        if (seconds := self.seconds_in_all(LONGEST_CHUNK_SECONDS)) > self.most_seconds:
            raise ValueError(
                f"with its retries, a chunk of {LONGEST_CHUNK_SECONDS} s might take {seconds:.0f} s, and may take "
                f"{self.most_seconds}: lower base_seconds, seconds_per_second or retries"
            )
        return self

    @property
    def served_name(self) -> str:
        return self.model or self.name

    def seconds_for(self, audio_seconds: float) -> float:
        """What a request may take."""
        return self.base_seconds + self.seconds_per_second * audio_seconds

    def seconds_in_all(self, audio_seconds: float) -> float:
        """What all attempts at it may take, and the pauses between them."""
        return (self.retries + 2) * self.seconds_for(audio_seconds)

    def key(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """The API key; None where there is none. Raises InvalidEndpoints if it is not where it should be."""
        if self.key_file is not None:
            try:
                key = self.key_file.read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise InvalidEndpoints(f"the key of {self.name} cannot be read: {self.key_file}") from error
        elif self.key_env:
            key = environment.get(self.key_env, "").strip()
        else:
            return None
        if not key or not key.isascii() or not key.isprintable():
            raise InvalidEndpoints(f"the key of {self.name} is empty or no key: {self.key_file or self.key_env}")
        return key


class RemoteModel(Server):
    """A model that transcribes."""

    shape: Shape = Shape.CHAT
    serves: Annotated[tuple[Literal["draft", "refine"], ...], Field(min_length=1)] = ("refine",)
    audio: Literal["data", "url"] = "data"
    """``url``: its hosts fetch the audio from S3, by a URL that works for some minutes."""
    format: Literal["flac", "wav"] = "flac"
    words: bool = True
    """Whether a server of the shape ``transcriptions`` is asked for word times (``verbose_json``)."""
    context: frozenset[Literal["hotwords", "text"]] = frozenset({"hotwords"})
    """What the model is told beside the audio: a job's hotwords, the text right before the chunk."""
    forces_language: bool = False
    """Whether the chat template renders the beginning of an answer, as ours for Qwen3-ASR does."""
    aligners: tuple[str, ...] = (WHISPER,)
    """What times words that have no times, best first; the draft's words stand in after them."""
    patience: float = Field(60, ge=0, le=86_400)
    """Seconds that chunks wait for a model none of whose hosts answers, before they are done without it."""
    price_per_minute: float | None = Field(None, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        if self.audio == "url" and self.shape is not Shape.CHAT:
            raise ValueError("only the shape `chat` takes audio by URL")
        if self.audio == "url" and self.format != "flac":
            raise ValueError("chunks are stored as FLAC: audio by URL has no other format")
        if self.forces_language and self.shape is not Shape.CHAT:
            raise ValueError("forces_language is for the shape `chat`; the other one takes `language` as it is")
        return self

    @property
    def known_languages(self) -> frozenset[str]:
        if self.languages:
            return frozenset(self.languages)
        return QWEN_LANGUAGES if self.shape is Shape.CHAT else LANGUAGES


class RemoteAligner(Server):
    """A forced aligner: ``POST /v1/audio/alignments``."""

    seconds_per_second: float = Field(0.5, ge=0, le=60)
    retries: int = Field(1, ge=0, le=10)


class LanguageModel(Server):
    """A model that reads transcripts: ``POST /v1/chat/completions``."""

    most_seconds: ClassVar[float] = 3600

    concurrency: int = Field(4, ge=1, le=1024)
    base_seconds: float = Field(120, gt=0, le=600)
    seconds_per_second: Literal[0] = 0
    context_tokens: int = Field(8192, ge=1024, le=10_000_000)
    """What it takes at once, with its answer."""
    answer_tokens: int = Field(1536, ge=256, le=100_000)
    """Of these, what is left for the answer."""
    schemas: bool = True
    """Whether it is sent the JSON Schema of its answer; one that refuses it goes on without."""
    patience: float = Field(600, ge=0, le=86_400)
    """Seconds that readings wait for a model none of whose hosts answers, before they fail."""

    @model_validator(mode="after")
    def _check_window(self) -> Self:
        if self.answer_tokens > self.context_tokens // 2:
            raise ValueError("answer_tokens is more than half of context_tokens")
        return self


class Endpoints(BaseModel):
    """All that the file says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: tuple[RemoteModel, ...] = ()
    aligner: tuple[RemoteAligner, ...] = ()
    language_model: tuple[LanguageModel, ...] = ()

    @property
    def servers(self) -> tuple[Server, ...]:
        return (*self.model, *self.aligner, *self.language_model)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [server.name for server in self.servers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two are called {', '.join(twice)}")
        known = {WHISPER, *(aligner.name for aligner in self.aligner)}
        for model in self.model:
            if unknown := sorted(set(model.aligners) - known):
                raise ValueError(f"{model.name}: there is no aligner {', '.join(unknown)}")
        return self

    def find(self, name: str) -> RemoteModel | None:
        return next((model for model in self.model if model.name == name), None)

    def reader(self, name: str | None) -> LanguageModel | None:
        """The language model of this name, or the first where none is named."""
        return next((model for model in self.language_model if name in (None, model.name)), None)

    def serving(self, role: str) -> list[RemoteModel]:
        """Those for draft or refine, in their order of preference."""
        return [model for model in self.model if role in model.serves]


def parse(text: str) -> Endpoints:
    """Raises InvalidEndpoints."""
    try:
        return Endpoints.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InvalidEndpoints(f"is no TOML: {error}") from error
    except ValidationError as error:
        faults = (f"{_place(fault['loc'])}: {fault['msg']}" for fault in error.errors(include_input=False))
        raise InvalidEndpoints("; ".join(faults)) from error


def _place(location: tuple[int | str, ...]) -> str:
    """``[[model]] 2, hosts 1``: what operators count from 1."""
    if not location:
        return "the file"
    table, *rest = location
    number, *names = rest or [""]
    where = f"[[{table}]]" + (f" {number + 1}" if isinstance(number, int) else "")
    inner = " ".join(str(part + 1 if isinstance(part, int) else part) for part in names)
    return f"{where}, {inner}" if inner else where


class EndpointsFile:
    """The file, read again when it changes. Thread-safe. Without a path it says nothing."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._current = Endpoints()

    def read(self) -> Endpoints:
        """What it says now. Raises InvalidEndpoints, as often as it is asked while the file cannot be used."""
        if self.path is None:
            return Endpoints()
        try:
            return parse(self.path.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidEndpoints(f"{self.path} cannot be read: {error}") from error
        except InvalidEndpoints as error:
            raise InvalidEndpoints(f"{self.path}: {error}") from error

    @property
    def current(self) -> Endpoints:
        """What it says now, or said before it became unusable, which is logged once."""
        if self.path is None:
            return self._current
        with self._lock:
            if (seen := self._stamp()) != self._seen:
                self._seen = seen
                try:
                    self._current = self.read()
                except InvalidEndpoints as error:
                    logger.error("the endpoints stay as they were: %s", error)
            return self._current

    def _stamp(self) -> tuple[int, ...]:
        """Changes with the file, also where it is replaced, as a mounted ConfigMap is."""
        assert self.path is not None  # noqa: S101
        try:
            stat = self.path.stat()
        except OSError:
            return ()
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
