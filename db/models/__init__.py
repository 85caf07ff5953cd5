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
    ErasedKind,
    ErasureReason,
    EventType,
    JobPurpose,
    JobStatus,
    Priority,
    Role,
    Scope,
    SegmentSource,
    Split,
    StepKind,
    StepState,
    VersionState,
    VoiceStatus,
)
from db.models.jobs import Chunk, Job, number_option
from db.models.speakers import StoredSpeaker, StoredTurn, StoredVoice
from db.models.steps import Event, Step, step_fence
from db.models.training import Export, FineTune, ModelVersion, Sample, Signal
from db.models.transcripts import StoredHypothesis, StoredSegment
from db.models.uploads import Upload, UploadPart

__all__ = [
    "AuditEntry",
    "Base",
    "Chunk",
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
    "ModelVersion",
    "Priority",
    "Role",
    "Sample",
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
    "Tenant",
    "Upload",
    "UploadPart",
    "UsageRecord",
    "VersionState",
    "VoiceStatus",
    "Withdrawal",
    "access_revision",
    "number_option",
    "pg_enum",
    "step_fence",
]
