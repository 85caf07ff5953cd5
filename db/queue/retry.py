"""A failed job goes on from what is done: its steps are put back to the first that is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import delete, func, select, update

from db.models import EventType, JobStatus, Step, StepKind, StepState
from db.queue.transaction import JobTransaction

NOT_DONE = (StepState.DEAD, StepState.SKIPPED)
Stages = Mapping[StepKind, Step]
"""The steps of a chunk, or those of the whole job."""


def retry_job(tx: JobTransaction) -> None:
    """Make a failed or cancelled job go on. What is done stays done; counts are taken anew from the steps."""
    steps = tx.session.scalars(select(Step).where(Step.job_id == tx.job.id)).all()
    of_job = {step.kind: step for step in steps if step.chunk is None}
    chunks: dict[int, dict[StepKind, Step]] = {}
    for step in steps:
        if step.chunk is not None:
            chunks.setdefault(step.chunk, {})[step.kind] = step
    restarted = [missing for stages in chunks.values() if (missing := _first_missing(stages)) is not None]
    # once the speakers are assigned, it is too late to listen to more of them
    unheard = [s for s in steps if s.kind == StepKind.DIARIZE and s.state in NOT_DONE]
    if _done(of_job, StepKind.EMBED):
        unheard = []
    restarted += unheard
    restarted += _job_level_steps(of_job, heard=not unheard, settled=not restarted)
    kept = {step.id for step in restarted}
    gone = [
        step.id for step in steps if step.state in NOT_DONE and step.id not in kept and _is_recreated(step, chunks)
    ]
    _reset_steps(tx, [step.id for step in restarted], gone)
    _count(tx)
    job = tx.job
    job.status = JobStatus.PROCESSING if job.started_at else JobStatus.QUEUED
    job.error_code = job.error_message = job.completed_at = None
    tx.ready += [step.kind for step in restarted]
    tx.emit(EventType.JOB_RETRIED, {"steps": len(restarted)})


def _done(stages: Stages, kind: StepKind) -> bool:
    return kind in stages and stages[kind].state == StepState.DONE


def _first_missing(stages: Stages) -> Step | None:
    """Where a chunk has to go on: with its draft, unless a later stage has what it needs."""
    if _done(stages, StepKind.ALIGN) or StepKind.DRAFT not in stages:
        return None
    if _done(stages, StepKind.REFINE):
        return stages[StepKind.ALIGN]
    if not _done(stages, StepKind.DRAFT):
        return stages[StepKind.DRAFT]
    return stages.get(StepKind.REFINE) or stages[StepKind.ALIGN]


def _job_level_steps(of_job: Stages, *, heard: bool, settled: bool) -> list[Step]:
    """The job's own steps that can run at once; the others follow when what they wait for is done."""
    restarted = []
    if (ingest := of_job[StepKind.INGEST]).state in NOT_DONE:
        restarted.append(ingest)
    embed = of_job.get(StepKind.EMBED)
    if heard and embed is not None and embed.state in NOT_DONE:
        restarted.append(embed)
    if not restarted and settled and StepKind.FINALIZE in of_job:
        restarted.append(of_job[StepKind.FINALIZE])
    return restarted


def _is_recreated(step: Step, chunks: Mapping[int, Stages]) -> bool:
    """Whether the flow makes the step anew, so that its lost self must go."""
    if step.chunk is None:
        return step.kind in (StepKind.EMBED, StepKind.FINALIZE)
    # a draft that was set aside stays so where its refinement stands in; so does the refinement of a final chunk
    return step.kind in (StepKind.REFINE, StepKind.ALIGN) and not _done(chunks[step.chunk], StepKind.ALIGN)


def _reset_steps(tx: JobTransaction, restarted: Sequence[int], gone: Sequence[int]) -> None:
    fresh = {
        "state": StepState.READY,
        "attempt": 0,
        "outages": 0,
        "error": None,
        "finished_at": None,
        "run_after": func.clock_timestamp(),
        "created_at": func.clock_timestamp(),
    }
    tx.session.execute(update(Step).where(Step.id.in_(restarted)).values(fresh))
    tx.session.execute(delete(Step).where(Step.id.in_(gone)))
    tx.session.expire_all()


def _count(tx: JobTransaction) -> None:
    """The counters of the job's joins, as the steps have it now."""
    job = tx.job
    steps = tx.session.scalars(select(Step).where(Step.job_id == job.id)).all()

    def count(kind: StepKind, counts: Callable[[Step], bool]) -> int:
        return sum(1 for step in steps if step.kind == kind and counts(step))

    job.drafted = count(StepKind.DRAFT, lambda step: step.state not in (StepState.READY, StepState.LEASED))
    job.refined = count(StepKind.ALIGN, lambda step: True)
    job.final = count(StepKind.ALIGN, lambda step: step.state == StepState.DONE)
    job.diarized = count(StepKind.DIARIZE, lambda step: step.state == StepState.DONE)
    job.speakers_known = count(StepKind.EMBED, lambda step: step.state == StepState.DONE) > 0
    job.degraded = any(step.state in NOT_DONE for step in steps)
