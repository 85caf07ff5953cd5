"""The order of the pipeline: which step follows which. Every function runs under the lock of the job's row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select

from db import jobs, readings, speakers, voices
from db.access import usage
from db.models import (
    READING_STEPS,
    Chunk,
    EventType,
    Job,
    JobPurpose,
    JobStatus,
    ReadingKind,
    Role,
    StepKind,
    StoredSpeaker,
    VoiceStatus,
)
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.settings import get_settings
from db.telemetry import metrics
from db.training import versions
from speech.models.names import DiarizeEngine, DraftEngine, RefineEngine
from speech.text.words import speaker_label
from tasks.errors import Permanent, Unreachable, Unserved


def start_job(tx: JobTransaction, audio: dict[str, Any]) -> None:
    """Start a job with a recording that could be opened. Does nothing on further attempts of ingest."""
    job = tx.job
    if job.status == JobStatus.QUEUED:
        job.status = JobStatus.PROCESSING
        job.started_at = func.now()
        if uses_tuned(job, Role.DRAFT):
            job.version_id = versions.select_for_job(tx.session, job.tenant, Role.DRAFT, job.id)
        if uses_tuned(job, Role.REFINED):
            job.refined_version_id = versions.select_for_job(tx.session, job.tenant, Role.REFINED, job.id)
        tx.emit(EventType.JOB_STARTED, {"audio": audio})


def uses_tuned(job: Job, role: Role) -> bool:
    """Whether a tuned model may do the job: its role is wanted, and the job's user chose no other engine."""
    options = job.options
    if job.voice_id is not None:
        return False
    if role == Role.DRAFT:
        default = DraftEngine.HTTP if options.get("draft_model") else DraftEngine.SENSEVOICE_ONNX
        engine = options.get("draft_engine", default)
        return engine == DraftEngine.SENSEVOICE_ONNX and not refines_first(options)
    configured = get_settings().refine_engine.split(",")[0].strip()
    engine = options.get("refine_engine", RefineEngine.HTTP if options.get("refine_model") else configured)
    return engine == RefineEngine.WHISPER and options.get("refine") != "never" and not options.get("translate")


def refines_first(options: Mapping[str, Any]) -> bool:
    """Whether chunks are refined without a draft, and drafted only where that fails."""
    return bool(options.get("refine") == "only")


def finish_fetch(tx: JobTransaction) -> None:
    """The recording is in storage, as if it had been uploaded."""
    tx.enqueue(StepKind.INGEST)


def add_chunk(tx: JobTransaction, index: int) -> None:
    tx.job.chunks += 1
    if tx.job.voice_id is None:
        tx.enqueue(StepKind.REFINE if refines_first(tx.job.options) else StepKind.DRAFT, index)
    if tx.job.diarize and not diarizes_whole_recording(tx.job.options):
        tx.enqueue(StepKind.DIARIZE, index)


def finish_ingest(tx: JobTransaction, duration: float) -> None:
    tx.job.duration = duration
    tx.job.ingested = True
    usage.record_upload(tx.session, tx.job, duration)
    for channel in tx.session.scalars(select(Chunk.channel).where(Chunk.job_id == tx.job.id).distinct()):
        if channel is not None:
            tx.session.add(StoredSpeaker(job_id=tx.job.id, label=speaker_label(channel), vector=[]))
    if tx.job.diarize and diarizes_whole_recording(tx.job.options):
        tx.enqueue(StepKind.DIARIZE)
    emit_progress(tx)
    enqueue_embed_when_due(tx)
    enqueue_finalize_when_due(tx)


def diarizes_whole_recording(options: Mapping[str, Any]) -> bool:
    """Whether the diarization engine takes the whole recording at once, after the last chunk."""
    engine = options.get("diarize_engine") or get_settings().diarize_engine.split(",")[0].strip()
    return bool(engine == DiarizeEngine.PYANNOTE)


def count_diarized(tx: JobTransaction) -> None:
    """A chunk is diarized, or the whole recording is, or diarization failed for good."""
    tx.job.diarized += 1
    enqueue_embed_when_due(tx)


def enqueue_embed_when_due(tx: JobTransaction) -> None:
    job = tx.job
    expected = 1 if diarizes_whole_recording(job.options) else job.chunks
    if job.diarize and job.ingested and job.diarized == expected:
        tx.enqueue(StepKind.EMBED)


def finish_speakers(tx: JobTransaction) -> None:
    """The speakers are assigned, or embedding failed for good: samples of people have served."""
    tx.job.speakers_known = True
    speakers.forget_samples(tx.session, tx.job.id)
    enqueue_finalize_when_due(tx)


def finish_draft(tx: JobTransaction, chunk: int, confidence: float | None) -> None:
    """Refine the chunk if the job's policy says so. ``confidence`` is None if drafting failed for good."""
    tx.job.drafted += 1
    emit_progress(tx)
    policy = tx.job.options.get("refine", "always")
    confident = confidence is not None and confidence >= get_settings().uncertain_below
    skipped = policy == "never" or (policy == "uncertain" and confident)
    # under `only` the draft stands in for a refinement that failed; ingest of an older version drafts first there
    stands_in = refines_first(tx.job.options) and tx.has_step(StepKind.REFINE, chunk)
    if skipped or stands_in:
        finish_refine(tx, chunk)
    else:
        tx.enqueue(StepKind.REFINE, chunk)


def finish_refine(tx: JobTransaction, chunk: int) -> None:
    """Align the chunk: it is refined, or its refinement was skipped or failed for good, and the draft is used."""
    tx.job.refined += 1
    tx.enqueue(StepKind.ALIGN, chunk)


def give_up_refinement(tx: JobTransaction, chunk: int) -> None:
    """The chunk's draft stands. One that was not drafted is now."""
    tx.job.degraded = True
    metrics.chunks_degraded.inc()
    if refines_first(tx.job.options) and not tx.has_step(StepKind.DRAFT, chunk):
        tx.enqueue(StepKind.DRAFT, chunk)
    else:
        finish_refine(tx, chunk)


def finish_align(tx: JobTransaction) -> None:
    tx.job.final += 1
    emit_progress(tx)
    enqueue_finalize_when_due(tx)


def enqueue_finalize_when_due(tx: JobTransaction) -> None:
    job = tx.job
    is_complete = job.ingested and job.final == job.chunks and (job.speakers_known or not job.diarize)
    if is_complete and job.voice_id is None:
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
    if (wanted := job.options.get("summarise")) is not None:
        readings.start(tx, ReadingKind.SUMMARY, wanted)
    if get_settings().semantic_search:
        tx.enqueue(StepKind.INDEX)


def start_background_job(tx: JobTransaction) -> None:
    """Start a job without a recording. Does nothing on further attempts."""
    job = tx.job
    if job.status == JobStatus.QUEUED:
        job.status = JobStatus.PROCESSING
        job.started_at = func.now()
        tx.emit(EventType.JOB_STARTED, {})


def finish_background_job(tx: JobTransaction) -> None:
    """Complete a job without a recording."""
    job = tx.job
    job.status = JobStatus.COMPLETED
    job.completed_at = func.now()
    job.percent = 100
    tx.emit(EventType.JOB_COMPLETED, {})


def handle_dead_step(tx: JobTransaction, claim: Claim, error: Exception) -> None:
    """Degrade the job if it can do without the dead step, else fail it. What comes after it fails alone."""
    if claim.kind in READING_STEPS.values():
        fail_reading(tx, claim, error)
    elif claim.kind == StepKind.INDEX:
        return  # the upkeep tries again
    elif tx.job.voice_id is not None and claim.kind != StepKind.PURGE and not isinstance(error, Permanent):
        fail_job(tx, "enrolment_failed", "The recording could not be listened to; the server's log has the cause.")
    elif claim.kind in (StepKind.DIARIZE, StepKind.EMBED) and tx.job.voice_id is None:
        tx.job.degraded = True
        count_diarized(tx) if claim.kind == StepKind.DIARIZE else finish_speakers(tx)
    elif isinstance(error, Permanent | Unreachable):
        fail_job(tx, error.code, str(error))
    elif claim.kind == StepKind.DRAFT and tx.job.options.get("refine") != "never":
        tx.job.degraded = True
        finish_draft(tx, claim.chunk_index, None)
    elif claim.kind == StepKind.REFINE:
        give_up_refinement(tx, claim.chunk_index)
    elif isinstance(error, Unserved):
        fail_job(tx, error.code, str(error))
    elif claim.kind != StepKind.PURGE:
        where = f" on chunk {claim.chunk}" if claim.chunk is not None else ""
        fail_job(
            tx,
            "step_failed",
            f"The {claim.kind} step{where} failed {claim.attempt} times and was set aside; "
            "the server's log has the cause.",
        )


def fail_reading(tx: JobTransaction, claim: Claim, error: Exception) -> None:
    if isinstance(error, Permanent | Unserved):
        readings.fail(tx, claim.chunk_index, error.code, str(error))
    else:
        message = f"It failed {claim.attempt} times and was set aside; the server's log has the cause."
        readings.fail(tx, claim.chunk_index, "step_failed", message)


def fail_job(tx: JobTransaction, code: str, message: str) -> None:
    job = tx.job
    if job.status.finished:
        return
    if job.purpose == JobPurpose.ERASURE:
        job.options = {}  # they hold the person's name
    jobs.fail(tx, code, message)
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
    """Emit the job's progress. The percentage never falls, and reaches 100 only with completion."""
    job = tx.job
    passed = [job.refined, job.final, *([] if refines_first(job.options) else [job.drafted])]
    done = sum(passed) / (len(passed) * max(job.chunks, 1))
    # during ingest the number of chunks is unknown: report at most half
    ceiling = 99 if job.ingested else 50
    job.percent = max(job.percent, min(ceiling, math.floor(done * ceiling)))
    tx.emit(EventType.JOB_PROGRESS, {"progress": progress_counts(job)})
