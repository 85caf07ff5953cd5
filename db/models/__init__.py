"""The schema, by concern. Postgres has the enums, checks and foreign keys too."""

from db.models.access import (
    AuditEntry,
    Erasure,
    SigningKey,
    StoredBytes,
    StoredKey,
    Tenant,
    UsageRecord,
    Withdrawal,
    access_revision,
)
from db.models.base import Base, Json, pg_enum
from db.models.enums import (
    READING_STEPS,
    DeliveryState,
    ErasedKind,
    ErasureReason,
    EventType,
    JobPurpose,
    JobStatus,
    Priority,
    ReadingKind,
    ReadingStatus,
    Role,
    Scope,
    SegmentSource,
    Split,
    StepKind,
    StepState,
    VersionState,
    VoiceStatus,
    WebhookEvent,
)
from db.models.jobs import Chunk, Job, number_option
from db.models.library import Collection, CollectionJob, Link, SavedSearch
from db.models.live import LiveFinal, LivePiece, LiveSession
from db.models.readings import Reading, Template
from db.models.rounds import Round
from db.models.search import Passage
from db.models.speakers import KnownSpeaker, StoredSpeaker, StoredTurn, StoredVoice
from db.models.steps import Event, Lane, Step, step_fence
from db.models.training import Export, FineTune, ModelVersion, Sample, Signal
from db.models.transcripts import StoredHypothesis, StoredSegment
from db.models.uploads import Upload, UploadPart
from db.models.vocabulary import VocabularyTerm
from db.models.webhooks import Webhook, WebhookDelivery, WebhookSecret

__all__ = [
    "READING_STEPS",
    "AuditEntry",
    "Base",
    "Chunk",
    "Collection",
    "CollectionJob",
    "DeliveryState",
    "ErasedKind",
    "Erasure",
    "ErasureReason",
    "Event",
    "EventType",
    "Export",
    "FineTune",
    "Job",
    "JobPurpose",
    "JobStatus",
    "Json",
    "KnownSpeaker",
    "Lane",
    "Link",
    "LiveFinal",
    "LivePiece",
    "LiveSession",
    "ModelVersion",
    "Passage",
    "Priority",
    "Reading",
    "ReadingKind",
    "ReadingStatus",
    "Role",
    "Round",
    "Sample",
    "SavedSearch",
    "Scope",
    "SegmentSource",
    "Signal",
    "SigningKey",
    "Split",
    "Step",
    "StepKind",
    "StepState",
    "StoredBytes",
    "StoredHypothesis",
    "StoredKey",
    "StoredSegment",
    "StoredSpeaker",
    "StoredTurn",
    "StoredVoice",
    "Template",
    "Tenant",
    "Upload",
    "UploadPart",
    "UsageRecord",
    "VersionState",
    "VocabularyTerm",
    "VoiceStatus",
    "Webhook",
    "WebhookDelivery",
    "WebhookEvent",
    "WebhookSecret",
    "Withdrawal",
    "access_revision",
    "number_option",
    "pg_enum",
    "step_fence",
]
