"""The schema, by concern. Postgres has the enums, checks and foreign keys too."""

from db.models.base import Base, Json, pg_enum
from db.models.enums import (
    EventType,
    JobPurpose,
    JobStatus,
    Priority,
    Role,
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

__all__ = [
    "Base",
    "Chunk",
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
    "SegmentSource",
    "Signal",
    "Split",
    "Step",
    "StepKind",
    "StepState",
    "StoredHypothesis",
    "StoredSegment",
    "StoredSpeaker",
    "StoredTurn",
    "StoredVoice",
    "VersionState",
    "VoiceStatus",
    "number_option",
    "pg_enum",
    "step_fence",
]
