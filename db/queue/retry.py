"""Retrying a failed or cancelled job: it continues from the steps that are done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, case, delete, func, select, update

from db import live
from db.models import EventType, JobStatus, Step, StepKind, StepState
from db.queue.leases import AS_NEW
from db.queue.transaction import JobTransaction

NOT_DONE = (StepState.DEAD, StepState.SKIPPED)
StepsByKind = Mapping[StepKind, Step]
"""The steps of a chunk, or those of the whole job."""


def retry_job(tx: JobTransaction) -> None:
    """Make the missing steps ready again. Done steps stay done; the job's counters are recounted."""
    steps = tx.session.scalars(select(Step).where(Step.job_id == tx.job.id)).all()
    refined_first = tx.job.options.get("refine") == "only"
    job_steps = {step.kind: step for step in steps if step.chunk is None}
    chunks: dict[int, dict[StepKind, Step]] = {}
    for step in steps:
        if step.chunk is not None:
            chunks.setdefault(step.chunk, {})[step.kind] = step
    restarted = [
        missing
        for steps_by_kind in chunks.values()
        if (missing := _first_missing(steps_by_kind, refined_first=refined_first)) is not None
    ]
    # once the speakers are assigned, more diarization comes too late
    undiarized = [s for s in steps if s.kind == StepKind.DIARIZE and s.state in NOT_DONE]
    if _is_done(job_steps, StepKind.EMBED):
        undiarized = []
    restarted += undiarized
    restarted += _job_level_steps(job_steps, diarized=not undiarized, chunks_done=not restarted)
    restarted_ids = {step.id for step in restarted}
    deleted = [
        step.id
        for step in steps
        if step.state in NOT_DONE
        and step.id not in restarted_ids
        and _is_recreated(step, chunks, refined_first=refined_first)
    ]
    _reset_steps(tx, [step.id for step in restarted], deleted)
    _recount(tx)
    job = tx.job
    job.status = JobStatus.PROCESSING if job.started_at else JobStatus.QUEUED
    job.error_code = job.error_message = job.completed_at = None
    tx.ready += [step.kind for step in restarted]
    tx.emit(EventType.JOB_RETRIED, {"steps": len(restarted)})


def revive_step(tx: JobTransaction, kind: StepKind) -> None:
    """Make a dead step of the job ready again."""
    dead = select(Step.id).where(Step.job_id == tx.job.id, Step.kind == kind, Step.state == StepState.DEAD)
    _reset_steps(tx, tx.session.scalars(dead).all(), [])
    tx.ready.append(kind)


def repeat_step(tx: JobTransaction, kind: StepKind) -> None:
    """Run the only step of a finished job again."""
    (step,) = tx.session.scalars(select(Step).where(Step.job_id == tx.job.id, Step.kind == kind)).all()
    _reset_steps(tx, [step.id], [])
    tx.job.status = JobStatus.PROCESSING
    tx.job.error_code = tx.job.error_message = tx.job.completed_at = None
    tx.ready.append(kind)
    tx.emit(EventType.JOB_RETRIED, {"steps": 1})


def _is_done(steps_by_kind: StepsByKind, kind: StepKind) -> bool:
    return kind in steps_by_kind and steps_by_kind[kind].state == StepState.DONE


def _first_missing(steps_by_kind: StepsByKind, *, refined_first: bool) -> Step | None:
    """The step that a chunk continues with: its first one, unless a later one has what it needs."""
    if _is_done(steps_by_kind, StepKind.ALIGN):
        return None
    if _is_done(steps_by_kind, StepKind.REFINE):
        return steps_by_kind[StepKind.ALIGN]
    if refined_first or StepKind.DRAFT not in steps_by_kind:
        return steps_by_kind.get(StepKind.REFINE) or steps_by_kind.get(StepKind.DRAFT)
    if not _is_done(steps_by_kind, StepKind.DRAFT):
        return steps_by_kind[StepKind.DRAFT]
    return steps_by_kind.get(StepKind.REFINE) or steps_by_kind[StepKind.ALIGN]


def _job_level_steps(job_steps: StepsByKind, *, diarized: bool, chunks_done: bool) -> list[Step]:
    """Steps of the whole job that can run now. The flow enqueues the others when they are due."""
    fetch = job_steps.get(StepKind.FETCH)
    if fetch is not None and fetch.state in NOT_DONE:
        return [fetch]
    restarted = []
    if (ingest := job_steps[StepKind.INGEST]).state in NOT_DONE:
        restarted.append(ingest)
    embed = job_steps.get(StepKind.EMBED)
    if diarized and embed is not None and embed.state in NOT_DONE:
        restarted.append(embed)
    if not restarted and chunks_done and StepKind.FINALIZE in job_steps:
        restarted.append(job_steps[StepKind.FINALIZE])
    return restarted


def _is_recreated(step: Step, chunks: Mapping[int, StepsByKind], *, refined_first: bool) -> bool:
    """Whether the flow will enqueue the step again, so that its old row has to be deleted."""
    if step.chunk is None:
        return step.kind in (StepKind.EMBED, StepKind.FINALIZE)
    # a dead draft stays where the refinement replaced it, and so does the dead refinement of a final chunk
    recreated = {StepKind.REFINE, StepKind.ALIGN} | ({StepKind.DRAFT} if refined_first else set())
    return step.kind in recreated and not _is_done(chunks[step.chunk], StepKind.ALIGN)


def _reset_steps(tx: JobTransaction, restarted: Sequence[int], deleted: Sequence[int]) -> None:
    fresh = AS_NEW | {"run_after": _due(tx)}
    tx.session.execute(update(Step).where(Step.id.in_(restarted)).values(fresh))
    tx.session.execute(delete(Step).where(Step.id.in_(deleted)))
    tx.session.expire_all()


def _due(tx: JobTransaction) -> ColumnElement[datetime]:
    """When steps that are made ready may begin: at once, but for the end of a live session that goes on."""
    now = func.clock_timestamp()
    if not live.is_live(tx.job):
        return now
    return case((Step.kind == StepKind.FETCH, func.greatest(Step.run_after, now)), else_=now)


def _recount(tx: JobTransaction) -> None:
    """Set the job's counters from its steps."""
    job = tx.job
    steps = tx.session.scalars(select(Step).where(Step.job_id == job.id)).all()

    def count(kind: StepKind, is_counted: Callable[[Step], bool]) -> int:
        return sum(1 for step in steps if step.kind == kind and is_counted(step))

    job.drafted = count(StepKind.DRAFT, lambda step: step.state not in (StepState.READY, StepState.LEASED))
    job.refined = count(StepKind.ALIGN, lambda step: True)
    job.final = count(StepKind.ALIGN, lambda step: step.state == StepState.DONE)
    job.diarized = count(StepKind.DIARIZE, lambda step: step.state == StepState.DONE)
    job.speakers_known = count(StepKind.EMBED, lambda step: step.state == StepState.DONE) > 0
    job.degraded = any(step.state in NOT_DONE for step in steps)
