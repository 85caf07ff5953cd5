"""Every setting, read once from the environment (``LONGHAND_*``). Nothing else reads the environment."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from phonenumbers import SUPPORTED_REGIONS
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from db.cores import count_cores
from db.secrets import read_keys

MIB = 1024 * 1024
GIB = 1024 * MIB


class ApiKey(BaseModel):
    """What a key may do."""

    model_config = ConfigDict(extra="forbid")

    tenant: str = Field(min_length=1)
    max_priority: Literal["low", "normal", "high"] = "normal"


class _Lenient(EnvSettingsSource):
    """Leaves what should be JSON and is not to the validation, which tells it together with other mistakes."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


class _Environment(_Lenient):
    """Variables of the process."""


class _EnvironmentFile(_Lenient, DotEnvSettingsSource):
    """The file ``.env``."""


class Settings(BaseSettings):
    """Defaults suit ``longhand up`` on one machine; URLs and keys come from the environment elsewhere."""

    model_config = SettingsConfigDict(
        env_prefix="LONGHAND_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        # passwords are among them
        hide_input_in_errors=True,
    )

    # connections and folders
    data_dir: Path = Field(Path(".longhand"), description="Data, models and logs of a local stack.")
    models_dir: Path | None = Field(None, description="Model files; DATA_DIR/models when unset.")
    database_url: str = Field(
        "postgresql+psycopg://longhand@127.0.0.1:5433/longhand",
        description="SQLAlchemy URL of Postgres; `?sslmode=verify-full&sslrootcert=FILE` for TLS.",
    )
    database_pool: int = Field(4, ge=2, description="Connections each process may hold.")
    database_prepare: bool = Field(
        True,
        description="Whether Postgres keeps statements that come again; `false` behind PgBouncer before 1.22, "
        "where transactions are pooled.",
    )
    redis_url: str = Field(
        "redis://127.0.0.1:6380/0", description="Broker and event bus; `rediss://…?ssl_ca_certs=FILE` for TLS."
    )
    s3_endpoint: str | None = Field(None, description="S3 endpoint; the AWS default when unset.")
    s3_public_endpoint: str | None = Field(
        None, description="Endpoint in presigned URLs, where clients reach S3 under another name."
    )
    s3_ca_bundle: Path | None = Field(
        None, description="PEM file of the authorities that an `https` endpoint is checked against."
    )
    s3_region: str = Field("us-east-1", description="Region that requests are signed for.")
    s3_bucket: str = Field("longhand", description="Made on first use where it does not exist.")
    s3_access_key: str | None = Field(None, description="The SDK's own credential chain when unset.")
    s3_secret_key: str | None = Field(None, description="Goes with the access key.")

    # the API
    api_keys: dict[str, str | ApiKey] = Field(
        default_factory=dict,
        description='Bootstrap keys: JSON object {"key": "tenant"}, or {"key": {"tenant": "acme", "max_priority": '
        '"high"}}. Others are made by `longhand keys create`; without any, no key is asked for.',
    )
    secret_key: str | None = Field(
        None, description="Encrypts what is secret in the database: a key of Fernet, or several, the newest first."
    )
    token_seconds: int = Field(3600, ge=1, description="Longest life of a token.")
    token_key_days: float = Field(30, gt=0, description="Age at which the key that signs tokens is replaced.")
    oidc_issuer: str | None = Field(None, description="URL of an OpenID Connect issuer whose tokens are accepted.")
    oidc_audience: str = Field("longhand", description="What such a token must be meant for.")
    oidc_tenant_claim: str = Field("tenant", description="The claim that names the tenant.")
    oidc_scope_claim: str = Field("scope", description="The claim that names scopes.")
    oidc_scopes: list[str] = Field(
        default_factory=lambda: ["jobs:read", "jobs:write"],
        description="Scopes of such a token that names none of ours: JSON.",
    )
    trusted_proxies: list[IPvAnyNetwork] = Field(
        default_factory=list,
        description="Proxies that are believed about whom they speak for (`X-Forwarded-For`): JSON list of "
        'addresses and networks, ["10.0.0.2", "172.16.0.0/12"].',
    )
    audit_days: float | None = Field(
        400, gt=0, le=36_525, description="Days that entries of the audit log are kept; for ever when `null`."
    )
    fetch_seconds: float = Field(
        3600, gt=0, le=4 * 3600, description="Seconds that fetching a recording by its address may take."
    )
    fetch_private: list[IPvAnyNetwork] = Field(
        default_factory=list,
        description="Networks that recordings are fetched from though they are not public: JSON list "
        '["10.1.0.0/16"]; whoever may make jobs can reach what is there.',
    )
    fetch_pages: bool = Field(
        False,
        description="Whether an address may be that of a web page, whose recording yt-dlp finds (extra `pages`).",
    )
    webhook_seconds: float = Field(
        15, gt=0, le=60, description="Seconds that the receiver of a webhook has to answer."
    )
    webhook_private: list[IPvAnyNetwork] = Field(
        default_factory=list,
        description="Networks that webhooks are sent to though they are not public: JSON list "
        '["10.1.2.3/32"]; whoever may make jobs or webhooks can reach every port there.',
    )
    webhook_failing_days: float = Field(
        5, gt=0, le=36_525, description="Days of failures after which a webhook is disabled."
    )
    webhook_days: float = Field(
        30, gt=0, le=36_525, description="Days that deliveries of webhooks are kept once they have ended."
    )
    s3_source_buckets: list[str] = Field(
        default_factory=list,
        description="Buckets that `s3://…` and events (`/v1/hooks/s3`) may name, of the same S3 server, for every "
        'tenant: JSON list ["recordings"].',
    )
    local_folder: Path | None = Field(
        None, description="Folder whose files `POST /api/transcribe` may name; none when unset. For every tenant."
    )
    transcribe_seconds: float = Field(
        3600,
        gt=0,
        description="Seconds after which who waits for a transcript (`/v1/audio/transcriptions`, "
        "`/api/transcribe`) is told that the job takes longer.",
    )
    flower_url: str | None = Field(
        None, description="Where Flower is reached, for the page's link; `longhand up` knows its own."
    )
    live_url: str | None = Field(
        None,
        pattern=r"^wss?://[^\s/;,]+$",
        description="Where the page reaches live sessions, such as wss://live.example.com; where the page itself "
        "is when unset, as behind a proxy. `longhand up` knows its own.",
    )
    docs: bool = Field(True, description="Whether /docs, /redoc and /openapi.json are served.")
    max_upload_bytes: int = Field(5 * GIB, gt=0, description="Largest file taken.")
    max_duration: float = Field(12 * 3600, gt=0, description="Longest recording taken, in seconds.")
    max_waiting_hours: float = Field(
        1000,
        gt=0,
        description="Hours of audio that may wait or be in work; beyond, uploads are answered with 429.",
    )
    tenant_limits: dict[str, int] = Field(
        default_factory=dict,
        description='Most steps of one kind that a tenant has in work at once: JSON {"tenant": 4, "*": 16}.',
    )
    tenant_audio_hours: float | None = Field(
        None, ge=0, description="Hours of audio that a tenant may have taken in a month (UTC); any when unset."
    )
    tenant_stored_bytes: int | None = Field(
        None, ge=0, description="Bytes of recordings that a tenant may keep; any when unset."
    )
    tenant_jobs_at_once: int | None = Field(
        None, ge=0, description="Recordings of a tenant that may wait or be in work; any number when unset."
    )
    tenant_requests_per_minute: int | None = Field(
        None, ge=0, description="Requests of a tenant in any minute; any number when unset."
    )
    tenant_event_streams: int | None = Field(
        None, ge=0, description="Event streams that a tenant may have open; any number when unset."
    )
    audio_url_ttl: int = Field(900, gt=0, description="Seconds a presigned audio URL works.")
    max_uploads: int = Field(
        16, ge=1, description="Uploads that an API process takes at once, 20 MB of memory each."
    )
    max_tenant_uploads: int | None = Field(
        None, ge=1, description="Of these, most that one tenant may hold; half of them when unset."
    )
    upload_expiry_seconds: int = Field(
        86_400,
        ge=3_600,
        le=604_800,
        description="Seconds after which a resumable upload is forgotten to which nothing was added.",
    )
    min_upload_rate: int = Field(
        8 * 1024, ge=0, description="Bytes a second below which an upload, on the whole, is ended."
    )
    max_tenant_waiting_hours: float | None = Field(
        None, gt=0, description="Of these hours, most that one tenant may have; half of them when unset."
    )
    min_free_bytes: int = Field(
        GIB, ge=0, description="Room on the disk of a local stack below which uploads are refused."
    )
    stall_seconds: float = Field(
        30, gt=0, description="A client that neither sends nor takes anything for so long is cut off."
    )
    heartbeat_seconds: float = Field(15, gt=0, description="Between comments on an idle event stream.")

    # live sessions
    public_base: str = Field(
        "http://127.0.0.1:8000",
        description="URL of the API as clients reach it; live sessions name recordings by it.",
    )
    live_sessions: int = Field(64, ge=1, description="Live sessions that one process holds at once.")
    live_tenant_sessions: int | None = Field(
        None, ge=1, description="Of these, most that one tenant may hold; half of them when unset."
    )
    live_origins: list[str] = Field(
        default_factory=list,
        description="Origins of web pages that may open live sessions beside those of the same host: JSON list "
        '["https://app.example.com"].',
    )
    live_resume_seconds: float = Field(
        30, gt=0, le=600, description="Seconds that a live session waits for a client whose connection is lost."
    )
    live_piece_seconds: float = Field(
        2, gt=0, le=30, description="Seconds of sound after which a live session stores what has come."
    )
    live_utterance_seconds: float = Field(
        12, ge=2, le=20, description="Seconds after which an utterance ends at the shortest of pauses."
    )
    live_pause_seconds: float = Field(0.45, ge=0.1, le=3, description="Silence that ends an utterance.")
    partial_interval_ms: int = Field(250, ge=50, description="Milliseconds between two partial results, at least.")
    flush_idle_sec: float = Field(
        3, gt=0, le=60, description="Seconds without sound on the line after which a live session is flushed."
    )
    lid_first_n_seconds: float = Field(
        3, ge=1, le=20, description="Seconds of speech in which a live session's language is heard."
    )
    enable_compress: bool = Field(
        True,
        description="Whether recordings of live sessions are kept as Opus; FLAC otherwise, five times the size.",
    )
    live_asr_sessions: int = Field(
        0, ge=0, description="Live sessions that the engines of one process recognise at once; 0 is eight a core."
    )
    live_threads: int = Field(
        0, ge=0, description="Threads of the engines of live sessions, in up to four streams; 0 is all cores."
    )

    # stages of live sessions in other processes
    asr_routes: dict[str, list[str]] = Field(
        default_factory=dict,
        description='Servers of ASR for live sessions: JSON {"zh": ["grpc://asr-zh:50051"], "en/medical": [...], '
        '"*": [...]}, by language, by language and domain, and for the rest; in the same process when empty.',
    )
    vad_url: str | None = Field(
        None, description="Server of voice detection, `grpc://HOST:PORT`; in the same process when unset."
    )
    denoise_url: str | None = Field(None, description="Server of noise suppression, if that is enabled.")
    lid_url: str | None = Field(
        None, description="Server of language identification; in the same process when unset."
    )
    enable_denoise: bool = Field(
        False, description="Whether noise is suppressed before ASR; it made more errors than it saved."
    )
    asr_link_codec: Literal["opus", "pcm"] = Field("opus", description="How audio goes to servers of ASR.")
    asr_link_bitrate: int = Field(
        24_000, ge=6_000, le=128_000, description="Bits a second of Opus on that link, on average."
    )
    asr_link_frame_ms: Annotated[Literal[10, 20, 40, 60], BeforeValidator(int)] = Field(
        20, description="Milliseconds in one packet of it."
    )
    stage_ca: Path | None = Field(
        None,
        description="PEM file of the authorities that the other end of `grpcs://` is checked against.",
    )
    stage_certificate: Path | None = Field(
        None, description="PEM file of the certificate that a stage, or a gateway that calls one, shows."
    )
    stage_key: Path | None = Field(None, description="PEM file of its key.")
    stage_sessions: int = Field(
        256, ge=1, description="Sessions that a server of voice detection, noise suppression or languages takes."
    )

    flower_host: str = Field("127.0.0.1", description="Address that Flower listens on.")
    flower_port: int = Field(5555, description="Port that Flower listens on.")

    # metrics, traces, logs
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65_535,
        description="Port where workers and stages serve `/metrics`, 0 for any; not served when unset. The API "
        "and live sessions serve it at their own.",
    )
    metrics_host: str = Field("127.0.0.1", description="Address that they listen on for it.")
    metrics_token: str | None = Field(
        None, min_length=16, description="Bearer token that opens every `/metrics`, and nothing else."
    )
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Where traces are sent by OTLP over HTTP, such as `http://collector:4318` (extra `traces`); "
        "there are none when unset.",
    )
    otlp_headers: dict[str, str] = Field(
        default_factory=dict, description='Headers that go with them: JSON {"authorization": "…"}.'
    )
    trace_ratio: float = Field(1.0, ge=0, le=1, description="Part of the requests that begin a trace.")
    log_format: Literal["text", "json"] = Field(
        "text", description="Of log lines; `json` has one for each step and request too."
    )

    # decoding of uploads, in processes of their own
    decode_memory_bytes: int = Field(
        512 * MIB,
        ge=64 * MIB,
        description="Memory that decoding one recording may take.",
    )
    decode_cpu_seconds: int = Field(600, ge=1, description="Processor time that decoding one recording may take.")

    # engines: each a name, or several in order; the first that loads serves
    draft_engine: str = Field(
        "sensevoice-onnx,whisper", description="Of sensevoice-onnx, sensevoice, whisper, http."
    )
    refine_engine: str = Field("whisper", description="Of whisper, whisper-cpp, vllm, http.")
    endpoints: Path | None = Field(
        None,
        description="TOML file of models behind HTTP, for the engine `http`, and of language models; read again "
        "when it changes.",
    )
    vllm_model: str = Field(
        "Qwen/Qwen3-ASR-0.6B", description="What the engine `vllm` loads: a folder, or a name on the hub."
    )
    voice_engine: str = Field("campplus-onnx", description="Of campplus-onnx, campplus, wespeaker-onnx.")
    diarize_engine: str = Field("pyannote-onnx", description="Of pyannote-onnx, pyannote.")
    vad_engine: str = Field("silero+pyannote", description="One of silero, fsmn, pyannote, silero+pyannote.")
    sensevoice_model: str = Field(
        "sensevoice-small", description="A model of the catalogue, or a folder with an export."
    )
    refine_model: str = Field("base", description="A size of Whisper, or a folder in the engine's form.")
    pyannote_model: str = Field(
        "pyannote/speaker-diarization-community-1",
        description="What the pyannote engine loads: a folder, or a name on the hub.",
    )
    hf_token: str | None = Field(None, description="Of a hub account that accepted pyannote's terms.")
    itn: bool = Field(True, description="SenseVoice writes numbers as digits, and punctuates.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where refinement runs: auto is CUDA where there is any."
    )
    compute_type: str = Field("auto", description="CTranslate2 compute type; int8 on CPU, float16 on CUDA.")
    draft_threads: int = Field(
        0,
        ge=0,
        description="Threads of the cpu queue's engines, in up to four streams; 0 is cores - 2, at least 1.",
    )
    refine_threads: int = Field(
        0, ge=0, description="Threads of the gpu queue's engines, in up to four streams; 0 is all cores."
    )
    diarize: bool = Field(True, description="Whether jobs find out who speaks, unless they say otherwise.")
    voice_threshold: float = Field(
        0.66,
        ge=-1,
        le=1,
        description="Cosine from which a speaker is an enrolled voice; `longhand voices calibrate`.",
    )
    uncertain_below: float = Field(
        0.6, ge=0, le=1, description="Under `refine: uncertain`, chunks drafted less surely than this are refined."
    )
    degrade_after: float | None = Field(
        None, ge=0, description="Seconds a chunk waits for refinement before its draft stands; never when unset."
    )
    draft_batch: int = Field(4, ge=1, description="Chunks drafted at once, across jobs.")
    refine_batch: int = Field(
        0, ge=0, description="Chunks refined at once; 0 is three for each stream on a CPU, and learnt on CUDA."
    )
    second_readings: bool = Field(
        False,
        description="Whether Whisper reads chunks that it is unsure of twice more, for a vote on the words: "
        "fewer errors for more time where accents are strong.",
    )
    diarize_batch: int = Field(4, ge=1, description="Chunks diarized with one claim.")

    torch_python: Path | None = Field(
        None,
        description="An interpreter with PyTorch: exports make a throwaway one when unset; fine-tuning needs it.",
    )

    # redaction
    redact: list[Literal["phone", "email", "card", "id"]] = Field(
        default_factory=list,
        description='Personal data that is left out of transcripts: JSON ["phone", "email", "card", "id"]; a '
        "tenant may have its own, and a job may add some.",
    )
    redact_regions: list[str] = Field(
        default_factory=lambda: ["CN", "US", "GB"],
        description="Countries (ISO 3166) whose phone numbers are known without a `+`: JSON.",
    )
    semantic_search: bool = Field(
        False,
        description="Whether transcripts in English are also found by what they mean; needs pgvector 0.8 and the "
        "model minilm-l6.",
    )
    keep_original: bool = Field(
        False,
        description="Whether what redaction leaves out is kept, encrypted by the secret key, for admins.",
    )

    # training
    training_tenants: list[str] = Field(
        default_factory=list,
        description='Tenants whose transcripts may become training data: JSON ["acme"], or ["*"] for all.',
    )
    retain_days: float | None = Field(
        None,
        gt=0,
        description="Days after which finished jobs are deleted, unless they say otherwise.",
    )
    retain_audio_days: float | None = Field(
        None, gt=0, description="Days after which the recordings of finished jobs are removed; transcripts stay."
    )
    retain_events_days: float | None = Field(
        None, gt=0, description="Days after which the events of finished jobs are removed."
    )
    export_hour: int = Field(2, ge=0, le=23, description="Hour (UTC) from which the day before is exported.")
    finetune_hours: float = Field(3, gt=0, description="Hours of new training data that start a fine-tuning.")
    finetune_max_hours: float = Field(
        20, gt=0, description="Hours that a fine-tuning goes through at most: new ones, and older ones again."
    )
    finetune_roles: list[Literal["draft", "refined"]] = Field(
        ["draft", "refined"],
        description="The models that are tuned when there is enough new speech, in this order.",
    )
    finetune_base: Path | None = Field(
        None,
        description="Folder of the draft model to tune first: a SenseVoice in FunASR's form, or a Whisper in "
        "CTranslate2's; the catalogue's when unset.",
    )
    finetune_general: Path | None = Field(
        None,
        description="A manifest.jsonl of general speech (path, text, language, duration), of which a tuned model "
        "may get no more wrong than before.",
    )
    finetune_epochs: int = Field(3, ge=1, description="Times that a fine-tuning goes through its data.")
    finetune_learning_rate: float | None = Field(
        None, gt=0, description="Of a fine-tuning; unset, the one that the network was tried with."
    )
    finetune_batch_seconds: float = Field(60, gt=0, description="Seconds of sound in one step of a fine-tuning.")
    finetune_frozen: int = Field(0, ge=0, description="Blocks at the front of the encoder that are not tuned.")
    canary_jobs: int = Field(
        20, ge=1, description="Jobs that a new version serves at each stage (5, 50, 100 %) before the next."
    )

    # the queue
    lease_seconds: float = Field(60, gt=0, description="A worker silent for so long has lost its step.")
    lease_renew_seconds: float = Field(15, gt=0, description="Between two renewals of a lease.")
    max_attempts: int = Field(4, ge=1, description="Tries of a step before it is set aside.")
    retry_seconds: float = Field(2, gt=0, description="First backoff; doubles at each attempt, with jitter.")
    heal_seconds: float = Field(5, gt=0, description="Between two rounds of healing.")
    deaf_seconds: float = Field(
        10, gt=0, description="Steps waiting so long beside an idle worker are claimed without a hint."
    )
    drain_seconds: float = Field(
        20, ge=0, description="Time that a worker told to stop has for its steps; then it hands them back."
    )
    outage_attempts: int = Field(
        720, ge=1, description="Tries of a step while a server below is away, half a minute apart: six hours."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _Environment(settings_cls), _EnvironmentFile(settings_cls)

    @field_validator("redact_regions")
    @classmethod
    def _check_regions(cls, regions: list[str]) -> list[str]:
        if unknown := set(regions) - SUPPORTED_REGIONS:
            raise ValueError(
                f"no country has the code {', '.join(sorted(unknown))}; use those of ISO 3166, such as GB"
            )
        return regions

    @field_validator("secret_key")
    @classmethod
    def _check_secret_key(cls, keys: str | None) -> str | None:
        read_keys(keys)
        return keys

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, url: str) -> str:
        try:
            driver = make_url(url).drivername
        except (ArgumentError, ValueError):
            driver = ""
        if driver != "postgresql+psycopg":
            raise ValueError("write postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE")
        return url

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: str) -> str:
        if not url.startswith(("redis://", "rediss://")):
            raise ValueError("write redis://:PASSWORD@HOST:PORT/0, or rediss://… for TLS")
        return url

    @field_validator("s3_endpoint", "s3_public_endpoint")
    @classmethod
    def _check_endpoint(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError("write http://HOST:PORT, or https://…")
        return url

    @model_validator(mode="wrap")
    @classmethod
    def _check_together(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Tell all mistakes at once: those of single settings, and what does not go together of the others."""
        try:
            settings, wrong = handler(values), []
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_context=False, include_input=False)
            names = {each["loc"][0] for each in wrong}
            settings = handler({name: value for name, value in values.items() if name not in names})
            contradictions = [(name, message) for name, message in settings.contradictions() if name not in names]
        else:
            contradictions = list(settings.contradictions())
        if wrong or contradictions:
            raise ValidationError.from_exception_data(
                cls.__name__,
                [
                    InitErrorDetails(
                        type=PydanticCustomError("setting", "{said}", {"said": said}), loc=loc, input=None
                    )
                    for loc, said in (
                        *((each["loc"], each["msg"].removeprefix("Value error, ")) for each in wrong),
                        *(((name,), message) for name, message in contradictions),
                    )
                ],
                hide_input=True,
            )
        return settings

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Which settings are valid each by itself and do not go together, each with what to do."""
        if self.keep_original and not read_keys(self.secret_key):
            yield "keep_original", "needs LONGHAND_SECRET_KEY: originals are kept encrypted or not at all"
        if (self.stage_certificate is None) != (self.stage_key is None):
            yield "stage_certificate", "goes with LONGHAND_STAGE_KEY: set both, or neither"
        if (self.s3_access_key is None) != (self.s3_secret_key is None):
            yield "s3_access_key", "goes with LONGHAND_S3_SECRET_KEY: set both, or neither"
        if self.lease_renew_seconds >= self.lease_seconds:
            yield (
                "lease_seconds",
                "leases run out before they are renewed; let it be several times LONGHAND_LEASE_RENEW_SECONDS",
            )

    @property
    def bootstrap_tenants(self) -> frozenset[str]:
        return frozenset(key if isinstance(key, str) else key.tenant for key in self.api_keys.values())

    def tenant_upload_slots(self, *, shared: bool) -> int:
        return _share(self.max_tenant_uploads, self.max_uploads, shared=shared)

    def tenant_waiting_hours(self, *, shared: bool) -> float:
        if self.max_tenant_waiting_hours is not None:
            return min(self.max_tenant_waiting_hours, self.max_waiting_hours)
        return self.max_waiting_hours / 2 if shared else self.max_waiting_hours

    def tenant_live_sessions(self, *, shared: bool) -> int:
        return _share(self.live_tenant_sessions, self.live_sessions, shared=shared)

    @property
    def live_thread_count(self) -> int:
        return self.live_threads or count_cores()

    @property
    def live_asr_session_count(self) -> int:
        return self.live_asr_sessions or 8 * count_cores()

    @property
    def upload_lifetime(self) -> timedelta:
        return timedelta(seconds=self.upload_expiry_seconds)

    @property
    def models_path(self) -> Path:
        return self.models_dir or self.data_dir / "models"

    @property
    def draft_thread_count(self) -> int:
        return self.draft_threads or max(1, count_cores() - 2)

    @property
    def refine_thread_count(self) -> int:
        return self.refine_threads or count_cores()


def _share(configured: int | None, total: int, *, shared: bool) -> int:
    """One tenant's part of something; the whole where there is nobody to share it with."""
    if configured is not None:
        return min(configured, total)
    return max(1, total // 2) if shared else total


def mistakes(error: ValidationError) -> list[str]:
    """A line for each setting that is not valid."""
    lines = []
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        name, *within = map(str, each["loc"])
        place = f" ({'.'.join(within)})" if within else ""
        lines.append(f"LONGHAND_{name.upper()}{place}: {each['msg']}")
    return lines


@cache
def get_settings() -> Settings:
    """Those of this process. Ends it with all mistakes, a line each, if they are not valid."""
    try:
        return Settings()
    except ValidationError as error:
        lines = ["These settings are not valid; docs/settings.md says what they take:", *mistakes(error)]
        raise SystemExit("\n  ".join(lines)) from error
