"""The enums of the schema; Postgres has them as types of the same names."""

from __future__ import annotations

from enum import StrEnum


class JobStatus(StrEnum):
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        return self in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


class JobPurpose(StrEnum):
    """What a job works on. Only those on recordings are shown to users as jobs."""

    RECORDING = "recording"
    EXPORT = "export"
    FINETUNE = "finetune"
    ERASURE = "erasure"


class Priority(StrEnum):
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class StepKind(StrEnum):
    """The units of work. ``fetch`` gets a recording that was named by its address; ``purge`` removes a deleted
    job's objects, then its rows; ``erase`` finds and removes all of one person. ``summarise``, ``answer`` and
    ``translate`` have a language model read a finished transcript; their ``chunk`` is the reading's number.
    ``index`` makes vectors of what a finished transcript says, by which it is found."""

    FETCH = "fetch"
    INGEST = "ingest"
    DRAFT = "draft"
    REFINE = "refine"
    DIARIZE = "diarize"
    EMBED = "embed"
    ALIGN = "align"
    FINALIZE = "finalize"
    PURGE = "purge"
    EXPORT = "export"
    FINETUNE = "finetune"
    ERASE = "erase"
    SUMMARISE = "summarise"
    ANSWER = "answer"
    TRANSLATE = "translate"
    INDEX = "index"


class StepState(StrEnum):
    """``ready`` and ``leased`` are open; ``dead`` spent its attempts; ``skipped`` became unnecessary."""

    READY = "ready"
    LEASED = "leased"
    DONE = "done"
    DEAD = "dead"
    SKIPPED = "skipped"


class Role(StrEnum):
    """Which model a hypothesis came from."""

    DRAFT = "draft"
    REFINED = "refined"


class SegmentSource(StrEnum):
    DRAFT = "draft"
    REFINED = "refined"
    HUMAN = "human"


class EventType(StrEnum):
    JOB_QUEUED = "job.queued"
    JOB_STARTED = "job.started"
    JOB_PROGRESS = "job.progress"
    SEGMENT_DRAFT = "segment.draft"
    SEGMENT_FINAL = "segment.final"
    SPEAKERS_ASSIGNED = "speakers.assigned"
    SEGMENT_CORRECTED = "segment.corrected"
    SEGMENTS_REPLACED = "segments.replaced"
    SPEAKERS_CHANGED = "speakers.changed"
    JOB_COMPLETED = "job.completed"
    JOB_FAILED = "job.failed"
    JOB_CANCELLED = "job.cancelled"
    JOB_RETRIED = "job.retried"
    JOB_ERASED = "job.erased"
    SUMMARY_QUEUED = "summary.queued"
    SUMMARY_COMPLETED = "summary.completed"
    SUMMARY_FAILED = "summary.failed"
    ANSWER_QUEUED = "answer.queued"
    ANSWER_COMPLETED = "answer.completed"
    ANSWER_FAILED = "answer.failed"
    TRANSLATION_QUEUED = "translation.queued"
    TRANSLATION_COMPLETED = "translation.completed"
    TRANSLATION_FAILED = "translation.failed"


class ReadingKind(StrEnum):
    """What a language model makes of a transcript. Events: ``{kind}.queued``, ``.completed``, ``.failed``."""

    SUMMARY = "summary"
    ANSWER = "answer"
    TRANSLATION = "translation"

    @property
    def step(self) -> StepKind:
        """The kind of step that makes it."""
        return READING_STEPS[self]


READING_STEPS = {
    ReadingKind.SUMMARY: StepKind.SUMMARISE,
    ReadingKind.ANSWER: StepKind.ANSWER,
    ReadingKind.TRANSLATION: StepKind.TRANSLATE,
}


class ReadingStatus(StrEnum):
    QUEUED = "queued"
    COMPLETED = "completed"
    FAILED = "failed"


class WebhookEvent(StrEnum):
    """What webhooks can tell. ``webhook.test`` comes when asked for, whatever is subscribed to."""

    JOB_COMPLETED = "job.completed"
    JOB_FAILED = "job.failed"
    JOB_CANCELLED = "job.cancelled"
    SPEAKERS_ASSIGNED = "speakers.assigned"
    READING_COMPLETED = "reading.completed"
    READING_FAILED = "reading.failed"
    EXPORT_COMPLETED = "export.completed"
    EXPORT_FAILED = "export.failed"
    FINETUNE_COMPLETED = "finetune.completed"
    FINETUNE_FAILED = "finetune.failed"
    TEST = "webhook.test"


class DeliveryState(StrEnum):
    """``failed`` was refused for good, or spent its attempts."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


class Split(StrEnum):
    TRAIN = "train"
    VAL = "val"


class VersionState(StrEnum):
    """``rejected`` never served; ``rolled_back`` did and was worse; ``retired`` was replaced by a newer one."""

    CANDIDATE = "candidate"
    CANARY = "canary"
    SERVING = "serving"
    RETIRED = "retired"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled_back"


class VoiceStatus(StrEnum):
    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"


class Scope(StrEnum):
    """What a key may do. ``admin`` may do everything for its tenant, and manage keys and tenants."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    VOICES = "voices"
    TRAINING = "training"
    LIVE = "live"
    ADMIN = "admin"


class ErasedKind(StrEnum):
    """What an erasure removes. ``job`` is everything of a recording, ``enrolment`` the recording of a voice."""

    JOB = "job"
    AUDIO = "audio"
    EVENTS = "events"
    ENROLMENT = "enrolment"
    EXPORT = "export"
    PERSON = "person"


class ErasureReason(StrEnum):
    DELETED = "deleted"
    RETENTION = "retention"
    ENROLLED = "enrolled"
    """The recording of a voice is not kept once the voiceprint is made, or cannot be."""
    PERSON = "person"
    """A person was to be erased."""
