"""What follows from what: the pipeline's arrows and joins, decided under the lock of the job's row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select

from db import voices
from db.models import (
    Chunk,
    EventType,
    Job,
    JobStatus,
    Step,
    StepKind,
    StoredSpeaker,
    VoiceStatus,
)
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.settings import get_settings
from db.training import versions
from speech.models.names import DiarizeEngine, DraftEngine
from speech.text.words import speaker_label
from tasks.errors import Permanent


def start_job(tx: JobTransaction, audio: dict[str, Any]) -> None:
    """The recording opened: say so once, however often ingest is tried."""
    job = tx.job
    if job.status == JobStatus.QUEUED:
        job.status = JobStatus.PROCESSING
        job.started_at = func.now()
        if uses_tuned_draft(job):
            job.version_id = versions.select_for_job(tx.session, job.tenant, job.id)
        tx.emit(EventType.JOB_STARTED, {"audio": audio})


def uses_tuned_draft(job: Job) -> bool:
    """Whether a tuned SenseVoice may draft it: it is not an enrolment, and its user wants no other engine."""
    engine = job.options.get("draft_engine", DraftEngine.SENSEVOICE_ONNX)
    return job.voice_id is None and engine == DraftEngine.SENSEVOICE_ONNX


def add_chunk(tx: JobTransaction, index: int) -> None:
    tx.job.chunks += 1
    if tx.job.voice_id is None:
        tx.enqueue(StepKind.DRAFT, index)
    if tx.job.diarize and not diarizes_whole_recording(tx.job.options):
        tx.enqueue(StepKind.DIARIZE, index)


def finish_ingest(tx: JobTransaction, duration: float) -> None:
    tx.job.duration = duration
    tx.job.ingested = True
    for channel in tx.session.scalars(select(Chunk.channel).where(Chunk.job_id == tx.job.id).distinct()):
        if channel is not None:
            tx.session.add(StoredSpeaker(job_id=tx.job.id, label=speaker_label(channel), vector=[]))
    if tx.job.diarize and diarizes_whole_recording(tx.job.options):
        tx.enqueue(StepKind.DIARIZE)
    emit_progress(tx)
    enqueue_embed_when_due(tx)
    enqueue_finalize_when_due(tx)


def diarizes_whole_recording(options: Mapping[str, Any]) -> bool:
    """Whether the diarization engine wants the whole recording at once, and so waits for the last chunk."""
    named = options.get("diarize_engine") or get_settings().diarize_engine.split(",")[0].strip()
    return bool(named == DiarizeEngine.PYANNOTE)


def count_diarized(tx: JobTransaction) -> None:
    """One chunk's local speakers are known, or all turns at once, or nobody could find out."""
    tx.job.diarized += 1
    enqueue_embed_when_due(tx)


def enqueue_embed_when_due(tx: JobTransaction) -> None:
    job = tx.job
    wanted = 1 if diarizes_whole_recording(job.options) else job.chunks
    if job.diarize and job.ingested and job.diarized == wanted:
        tx.enqueue(StepKind.EMBED)


def finish_speakers(tx: JobTransaction) -> None:
    """The speakers are assigned, or will not be known."""
    tx.job.speakers_known = True
    enqueue_finalize_when_due(tx)


def finish_draft(tx: JobTransaction, chunk: int, confidence: float | None) -> None:
    """A draft stands (``None`` when drafting gave up): refine it if the job's policy says so."""
    tx.job.drafted += 1
    emit_progress(tx)
    policy = tx.job.options.get("refine", "always")
    certain = confidence is not None and confidence >= get_settings().uncertain_below
    if policy == "never" or (policy == "uncertain" and certain):
        finish_refine(tx, chunk, heard=False)
    else:
        tx.enqueue(StepKind.REFINE, chunk, blocked=_waits_for_previous_chunk(tx, chunk))


def _waits_for_previous_chunk(tx: JobTransaction, chunk: int) -> bool:
    """Whether a chunk's refinement is to hear the text of the chunk before, which is not there yet."""
    if chunk % get_settings().refine_lane == 0:
        return False
    before = select(Step.id).where(Step.job_id == tx.job.id, Step.kind == StepKind.ALIGN, Step.chunk == chunk - 1)
    return tx.session.scalar(before) is None


def finish_refine(tx: JobTransaction, chunk: int, *, heard: bool = True) -> None:
    """Refinement finished, or it was not wanted or gave up (not ``heard``): alignment takes what there is."""
    tx.job.refined += 1
    tx.enqueue(StepKind.ALIGN, chunk)
    tx.unblock(StepKind.REFINE, chunk + 1, backdated=not heard)


def finish_align(tx: JobTransaction) -> None:
    tx.job.final += 1
    emit_progress(tx)
    enqueue_finalize_when_due(tx)


def enqueue_finalize_when_due(tx: JobTransaction) -> None:
    job = tx.job
    whole = job.ingested and job.final == job.chunks and (job.speakers_known or not job.diarize)
    if whole and job.voice_id is None:
        tx.enqueue(StepKind.FINALIZE)


def complete_job(tx: JobTransaction, transcript_prefix: str, language: str | None) -> None:
    job = tx.job
    job.transcript_prefix = transcript_prefix
    job.language = language
    job.status = JobStatus.COMPLETED
    job.completed_at = func.now()
    job.percent = 100
    tx.emit(
        EventType.JOB_COMPLETED,
        {
            "progress": progress_counts(job),
            "language": language,
            "duration": job.duration,
            "degraded": job.degraded,
        },
    )


def start_background_job(tx: JobTransaction) -> None:
    """Work on what is no recording has begun: say so once, however often it is tried."""
    job = tx.job
    if job.status == JobStatus.QUEUED:
        job.status = JobStatus.PROCESSING
        job.started_at = func.now()
        tx.emit(EventType.JOB_STARTED, {})


def finish_background_job(tx: JobTransaction) -> None:
    """Work on what is no recording is done."""
    job = tx.job
    job.status = JobStatus.COMPLETED
    job.completed_at = func.now()
    job.percent = 100
    tx.emit(EventType.JOB_COMPLETED, {})


def handle_dead_step(tx: JobTransaction, claim: Claim, error: Exception) -> None:
    """A step was set aside. One model lost degrades the job; anything else fails it."""
    if tx.job.voice_id is not None and claim.kind != StepKind.PURGE and not isinstance(error, Permanent):
        fail_job(tx, "enrolment_failed", "The recording could not be listened to; the server's log has the cause.")
    elif claim.kind in (StepKind.DIARIZE, StepKind.EMBED) and tx.job.voice_id is None:
        tx.job.degraded = True
        count_diarized(tx) if claim.kind == StepKind.DIARIZE else finish_speakers(tx)
    elif isinstance(error, Permanent):
        fail_job(tx, error.code, str(error))
    elif claim.kind == StepKind.DRAFT and tx.job.options.get("refine") != "never":
        tx.job.degraded = True
        finish_draft(tx, claim.chunk_index, None)
    elif claim.kind == StepKind.REFINE:
        tx.job.degraded = True
        finish_refine(tx, claim.chunk_index, heard=False)
    elif claim.kind != StepKind.PURGE:
        where = f" on chunk {claim.chunk}" if claim.chunk is not None else ""
        fail_job(
            tx,
            "step_failed",
            f"The {claim.kind} step{where} failed {claim.attempt} times and was set aside; "
            "the server's log has the cause.",
        )


def fail_job(tx: JobTransaction, code: str, message: str) -> None:
    job = tx.job
    if job.status.finished:
        return
    job.status = JobStatus.FAILED
    job.error_code = code
    job.error_message = message
    job.completed_at = func.now()
    tx.skip_open_steps()
    tx.emit(EventType.JOB_FAILED, {"error": {"code": code, "message": message}})
    if job.voice_id is not None:
        voices.finish_enrolment(tx, status=VoiceStatus.FAILED, error_code=code, error_message=message)


def progress_counts(job: Job) -> dict[str, int]:
    return {
        "chunks": job.chunks,
        "drafted": job.drafted,
        "refined": job.refined,
        "final": job.final,
        "percent": job.percent,
    }


def emit_progress(tx: JobTransaction) -> None:
    """Tell how far the job is. The percentage never falls and reaches 100 with completion alone."""
    job = tx.job
    done = (job.drafted + job.refined + job.final) / (3 * max(job.chunks, 1))
    # while ingest is still cutting, the chunks to come are unknown: claim at most half
    ceiling = 99 if job.ingested else 50
    job.percent = max(job.percent, min(ceiling, math.floor(done * ceiling)))
    tx.emit(EventType.JOB_PROGRESS, {"progress": progress_counts(job)})
