"""What the server answers, as it answers it: JSON objects, whose keys type checkers know.

They are TypedDicts: nothing is converted, so that a newer server may say more without breaking an older client,
an answer can be stored or passed on as it is, and the client needs no library of models. Times of day are ISO 8601
texts, times in a recording float seconds from its start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict

JobStatus = Literal["queued", "processing", "completed", "failed", "cancelled"]
Priority = Literal["high", "normal", "low"]


class JobOptions(TypedDict, total=False):
    """How to transcribe a recording; docs/api.md says what each does."""

    language: str | None
    hotwords: list[str]
    translate: bool
    digits: bool | None
    refine: Literal["always", "uncertain", "never", "only"]
    degrade_after: float | None
    channels: Literal["mix", "split"]
    diarize: bool | None
    speakers: int | None
    min_speakers: int | None
    max_speakers: int | None
    priority: Priority
    redact: list[Literal["phone", "email", "card", "id"]] | None
    source: str | None
    training: bool | None
    retain_days: float | None
    summarise: SummaryRequest | None
    webhook: dict[str, str] | None
    draft_engine: str | None
    refine_engine: str | None
    draft_model: str | None
    refine_model: str | None
    diarize_engine: str | None
    voice_engine: str | None


class Failure(TypedDict):
    code: str
    message: str


class Audio(TypedDict):
    filename: str
    bytes: int | None
    sha256: str | None
    source_url: str | None
    duration: float | None
    sample_rate: int | None
    channels: int | None
    erased_at: str | None


class Progress(TypedDict):
    chunks: int
    drafted: int
    refined: int
    final: int
    percent: int


class Urls(TypedDict):
    self: str
    events: str
    transcript: str
    audio: str


class Job(TypedDict):
    id: str
    title: str | None
    tags: list[str]
    status: JobStatus
    created_at: str
    started_at: str | None
    completed_at: str | None
    audio: Audio
    language: str | None
    options: dict[str, Any]
    progress: Progress
    models: dict[str, Any]
    degraded: bool
    error: Failure | None
    urls: Urls


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a job. ``seq`` counts from 1 without gaps."""

    seq: int
    type: str
    data: dict[str, Any]


class _Word(TypedDict):
    text: str
    start: float
    end: float
    confidence: float


class Word(_Word, total=False):
    glued: bool


class _Segment(TypedDict):
    index: int
    chunk: int
    start: float
    end: float
    text: str
    speaker: str | None
    language: str | None
    confidence: float
    source: Literal["draft", "refined", "human"]
    version: int
    words: list[Word]


class Segment(_Segment, total=False):
    provisional: bool


class Hit(TypedDict):
    """A segment that a search found."""

    job_id: str
    title: str | None
    filename: str
    created_at: str
    index: int
    chunk: int
    start: float
    end: float
    text: str
    speaker: str | None
    speaker_name: str | None
    language: str | None
    provisional: bool
    highlights: list[list[int]]
    play_from: float
    exact: bool


class JobChange(TypedDict, total=False):
    """What people call a recording, and how they sort it; None removes it."""

    title: str | None
    tags: list[str] | None
    source: str | None


BulkAction = Literal["tag", "untag", "collect", "take_out", "cancel", "retry", "delete"]


class JobFilter(TypedDict, total=False):
    """Jobs as ``jobs.list`` finds them; at least one of these is given."""

    status: list[JobStatus]
    q: str | None
    tag: str | None
    collection: str | None


class BulkResult(TypedDict):
    """What became of one of many."""

    job_id: str
    outcome: Literal["done", "unchanged", "failed"]
    error: Failure | None


class Collection(TypedDict):
    id: str
    name: str
    created_at: str
    recordings: int


class SavedSearch(TypedDict):
    id: str
    name: str
    query: dict[str, Any]
    created_at: str


class Link(TypedDict):
    id: str
    job_id: str
    audio: bool
    created_by: str
    created_at: str
    expires_at: str
    revoked_at: str | None


class NewLink(Link):
    token: str
    """Shown this once."""
    path: str


class Speaker(TypedDict):
    label: str
    name: str | None
    voice_id: str | None
    score: float | None


class Turn(TypedDict):
    start: float
    end: float
    speaker: str


class Transcript(TypedDict):
    job_id: str
    status: JobStatus
    language: str | None
    duration: float | None
    speakers: list[Speaker]
    turns: list[Turn]
    segments: list[Segment]


class Part(TypedDict):
    number: int
    start: int
    bytes: int
    stored: bool
    url: str | None


class Upload(TypedDict):
    id: str
    status: Literal["receiving", "completed", "used"]
    filename: str
    bytes: int
    received: int
    sha256: str | None
    created_at: str
    expires_at: str | None
    job_id: str | None
    parts: list[Part] | None


ReadingKind = Literal["summary", "answer", "translation"]


class SummaryRequest(TypedDict, total=False):
    template: str | None
    language: str | None
    model: str | None


class Statement(TypedDict):
    """A sentence, the segments that it rests on, and where the first of them begins."""

    text: str
    segments: list[int]
    start: float


class Reading(TypedDict):
    """What a language model makes of a transcript."""

    number: int
    kind: ReadingKind
    status: Literal["queued", "completed", "failed"]
    created_at: str
    ended_at: str | None
    request: dict[str, Any]
    stale: bool
    model: str | None
    tokens: dict[str, int]
    error: Failure | None


class ReadingWithContent(Reading):
    content: dict[str, Any] | None


class Template(TypedDict):
    name: str
    instructions: str
    parts: list[str]
    sentences: int


class Term(TypedDict):
    """A name or term of the vocabulary."""

    id: str
    term: str
    sounds_like: list[str]
    language: str | None
    accepted: bool
    created_at: str


class Proposal(TypedDict):
    term: str
    sounds_like: list[str]
    corrections: int


class Voice(TypedDict):
    id: str
    name: str
    status: Literal["pending", "ready", "failed"]
    created_at: str
    seconds: float | None
    model: str | None
    training: bool
    error: Failure | None


class TrainingJob(TypedDict):
    """What exports and fine-tunings have in common."""

    id: str
    status: JobStatus
    created_at: str
    started_at: str | None
    completed_at: str | None
    error: Failure | None


class Export(TrainingJob):
    date: str
    since: str
    until: str
    dry_run: bool
    prefix: str | None
    manifest: dict[str, Any] | None


class FineTune(TrainingJob):
    role: Literal["draft", "refined"]
    exports: list[str]
    hours: float
    automatic: bool
    options: dict[str, Any]
    report: dict[str, Any] | None


class VersionRecord(TypedDict):
    jobs: int
    agreement: float | None
    rejected: float | None
    rtf: float | None
    errors: float | None
    loops: float | None
    corrections: float | None


class Version(TypedDict):
    """A tuned model."""

    id: str
    number: int
    role: Literal["draft", "refined"]
    engine: str
    state: Literal["candidate", "canary", "serving", "retired", "rejected", "rolled_back"]
    stage: int
    reason: str | None
    created_at: str
    staged_at: str | None
    finetune_id: str | None
    base: str
    metrics: dict[str, Any]
    files: dict[str, Any]
    record: VersionRecord


class ErrorRate(TypedDict):
    """``name`` is the Monday of a week, a voice, or a language; ``rate`` a share of characters."""

    name: str
    rate: float
    characters: int
    minutes: float


class LearntClip(TypedDict):
    """A clip that a version writes right, and its base did not."""

    version: int
    job_id: str
    segment: int
    start: float
    end: float
    wrong: str
    right: str
    text: str


class TuningCost(TypedDict):
    version: int
    role: Literal["draft", "refined"]
    minutes: float


class VersionsReport(TypedDict):
    """What people's corrections say of the models, and what the models have learnt from them."""

    weeks: list[ErrorRate]
    voices: list[ErrorRate]
    languages: list[ErrorRate]
    learnt: list[LearntClip]
    cost: list[TuningCost]


class Heard(TypedDict):
    """The longest stretch of a voice in a recording; times in seconds."""

    job_id: str
    filename: str
    start: float
    end: float
    text: str


class Key(TypedDict):
    id: str
    tenant: str
    name: str
    prefix: str
    scopes: list[str]
    max_priority: Priority
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None


class NewKey(Key):
    key: str
    """Shown this once."""


class Token(TypedDict):
    token: str
    token_type: str
    expires_at: str
    scopes: list[str]
    job_id: str | None


class Quota(TypedDict):
    limit: float | None
    used: float | None
    own: bool


class Tenant(TypedDict):
    name: str
    quotas: dict[str, Quota]
    month_ends: str
    retain_audio_days: float | None
    retain_transcript_days: float | None
    retain_events_days: float | None
    redact: list[str] | None
    keep_original: bool | None
    updated_at: str | None


class _UsageRow(TypedDict):
    stage: str
    jobs: int
    audio_seconds: float
    bytes: int


class UsageRow(_UsageRow, total=False):
    day: str | None
    key_id: str | None
    key: str | None
    prefix: str | None
    engine: str | None
    model: str | None


UsageReport = TypedDict("UsageReport", {"from": str, "to": str, "group_by": list[str], "data": list[UsageRow]})


class _Open(TypedDict):
    waiting: int
    delayed: int
    running: int
    oldest_seconds: float


class QueueKind(_Open):
    queue: str
    steps_per_second: float | None
    drain_seconds: float | None


class Queue(_Open):
    workers: int | None
    drain_seconds: float | None
    work_per_audio_second: float | None


class QueueReport(TypedDict):
    queues: dict[str, Queue]
    kinds: dict[str, QueueKind]
    measured_audio_seconds: float | None


class AuditEntry(TypedDict):
    id: int
    at: str
    tenant: str | None
    actor: str
    key_id: str | None
    address: str | None
    action: str
    target: str | None
    status: int | None
    count: int


class Webhook(TypedDict):
    id: str
    url: str
    events: list[str]
    description: str | None
    created_at: str
    disabled: bool
    disabled_at: str | None
    disabled_reason: str | None
    failing_since: str | None
    old_secret_ends_at: str | None


class NewWebhook(Webhook):
    secret: str
    """Shown this once."""


class Attempt(TypedDict):
    at: str
    status: int | None
    error: str | None
    seconds: float
    answer: str | None


class Delivery(TypedDict):
    id: str
    webhook_id: str | None
    job_id: str | None
    type: str
    state: Literal["waiting", "delivered", "failed"]
    created_at: str
    ended_at: str | None
    next_attempt_at: str | None
    attempts: list[Attempt]


class Erasure(TypedDict):
    id: str
    what: Literal["job", "audio", "events", "enrolment", "export", "person"]
    subject: str
    reason: Literal["deleted", "retention", "enrolled", "person"]
    requested_by: str
    requested_at: str
    status: Literal["pending", "done", "failed"]
    erased_at: str | None
    counts: dict[str, int] | None
    dry_run: bool
    found: list[dict[str, Any]] | None
    error: Failure | None
