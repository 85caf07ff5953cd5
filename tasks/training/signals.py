"""The quality signals of a finished job for the models that drafted and refined it."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from db.models import Chunk, Job, ModelVersion, Role, Signal, Step, StepKind, StepState, StoredHypothesis
from speech.asr.loops import is_loop
from speech.text.script import join_words
from speech.text.timeline import Timeline
from speech.text.words import Hypothesis
from speech.training.dataset.filters import Filters
from speech.training.dataset.rejection import disagreement
from tasks import flow
from tasks.runtime import Runtime
from tasks.training.versions import model_name

MAX_DISAGREEMENT = Filters().max_disagreement


def measure(runtime: Runtime, job: Job, role: Role) -> Signal | None:
    """Agreement of the two models, and speed, loops and failures of the one in this role, over the whole job.

    None where the job asked for a model of its own, or another model than its assigned version did it.
    """
    if not flow.uses_tuned(job, role):
        return None
    kind = StepKind.DRAFT if role == Role.DRAFT else StepKind.REFINE
    version_id = job.version_id if role == Role.DRAFT else job.refined_version_id
    with runtime.sessions() as session:
        did = job.models.get(kind, {}).get("model")
        if version_id is not None:
            version = session.get(ModelVersion, version_id)
            if version is None or did not in (None, model_name(version)):
                return None
        agreement, rejected, loops = _compare(session, job, role)
        steps = select(Step).where(Step.job_id == job.id, Step.kind == kind).subquery()
        duration = func.extract("epoch", steps.c.finished_at - steps.c.claimed_at)
        seconds, done, dead = session.execute(
            select(
                func.sum(duration).filter(steps.c.state == StepState.DONE),
                func.count().filter(steps.c.state == StepState.DONE),
                func.count().filter(steps.c.state == StepState.DEAD),
            ).select_from(steps)
        ).one()
        # none did it: it was not wanted, or failed on every chunk
        if version_id is not None and did is None and not dead:
            return None
        stored = session.scalars(select(Chunk).where(Chunk.job_id == job.id))
        audio_seconds = sum(Timeline.of(chunk.spans).seconds for chunk in stored)
    return Signal(
        job_id=job.id,
        role=role,
        tenant=job.tenant,
        version_id=version_id,
        agreement=agreement,
        rejected=rejected,
        rtf=float(seconds) / audio_seconds if seconds and audio_seconds else None,
        errors=dead / max(done + dead, 1),
        loops=loops,
    )


def _compare(session: Session, job: Job, role: Role) -> tuple[float | None, float | None, float | None]:
    """Agreement, share of chunks that differ too much, and share of chunks in which the role's model loops."""
    ours, theirs = aliased(StoredHypothesis), aliased(StoredHypothesis)
    other = Role.REFINED if role == Role.DRAFT else Role.DRAFT
    pairs = session.execute(
        select(ours.content, theirs.content)
        .outerjoin(theirs, (theirs.job_id == ours.job_id) & (theirs.chunk == ours.chunk) & (theirs.role == other))
        .where(ours.job_id == job.id, ours.role == role)
        .execution_options(yield_per=100)
    )
    distance = length = 0.0
    chunks = compared = rejected = loops = 0
    for content, other_content in pairs:
        hypothesis = Hypothesis.from_json(content)
        chunks, loops = chunks + 1, loops + is_loop(hypothesis)
        if other_content is None:
            continue
        texts = [join_words(each.words) for each in (hypothesis, Hypothesis.from_json(other_content))]
        if any(texts):
            share = disagreement(*texts)
            weight = max(map(len, texts))
            distance, length = distance + share * weight, length + weight
            compared, rejected = compared + 1, rejected + (share > MAX_DISAGREEMENT)
    return (
        1 - distance / length if length else None,
        rejected / compared if compared else None,
        loops / chunks if chunks else None,
    )
