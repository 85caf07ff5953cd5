"""The quality signal of a finished job for the model that drafted it."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import aliased

from db.models import Chunk, Job, ModelVersion, Role, Signal, Step, StepKind, StepState, StoredHypothesis
from speech.text.script import join_words
from speech.text.timeline import Timeline
from speech.text.words import Hypothesis
from speech.training.dataset.filters import Filters
from speech.training.dataset.rejection import disagreement
from tasks import flow
from tasks.runtime import Runtime
from tasks.training.versions import model_name

MAX_DISAGREEMENT = Filters().max_disagreement


def measure(runtime: Runtime, job: Job) -> Signal | None:
    """Agreement with the refinement, speed and failures of the drafts, over the whole job.

    None where the job asked for its own draft model, or another model than its assigned version drafted it.
    """
    if not flow.uses_tuned_draft(job):
        return None
    if job.version_id is not None:
        with runtime.sessions() as session:
            version = session.get(ModelVersion, job.version_id)
        if version is None or job.models.get("draft", {}).get("model") != model_name(version):
            return None
    draft, refined = aliased(StoredHypothesis), aliased(StoredHypothesis)
    distance = length = 0.0
    chunks = rejected = 0
    with runtime.sessions() as session:
        pairs = session.execute(
            select(draft.content, refined.content)
            .join(refined, (refined.job_id == draft.job_id) & (refined.chunk == draft.chunk))
            .where(draft.job_id == job.id, draft.role == Role.DRAFT, refined.role == Role.REFINED)
            .execution_options(yield_per=100)
        )
        for draft_content, refined_content in pairs:
            texts = [
                join_words(Hypothesis.from_json(content).words) for content in (draft_content, refined_content)
            ]
            if not any(texts):
                continue
            share = disagreement(*texts)
            weight = max(map(len, texts))
            distance, length = distance + share * weight, length + weight
            chunks, rejected = chunks + 1, rejected + (share > MAX_DISAGREEMENT)
        drafts = select(Step).where(Step.job_id == job.id, Step.kind == StepKind.DRAFT).subquery()
        duration = func.extract("epoch", drafts.c.finished_at - drafts.c.claimed_at)
        seconds, done, dead = session.execute(
            select(
                func.sum(duration).filter(drafts.c.state == StepState.DONE),
                func.count().filter(drafts.c.state == StepState.DONE),
                func.count().filter(drafts.c.state == StepState.DEAD),
            ).select_from(drafts)
        ).one()
        stored = session.scalars(select(Chunk).where(Chunk.job_id == job.id))
        audio_seconds = sum(Timeline.of(chunk.spans).seconds for chunk in stored)
    return Signal(
        job_id=job.id,
        tenant=job.tenant,
        version_id=job.version_id,
        agreement=1 - distance / length if length else None,
        rejected=rejected / chunks if chunks else None,
        rtf=float(seconds) / audio_seconds if seconds and audio_seconds else None,
        errors=dead / max(done + dead, 1),
    )
