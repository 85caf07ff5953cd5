"""What a finished job says of the model that drafted it."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import aliased

from db.models import (
    Chunk,
    Job,
    ModelVersion,
    Role,
    Signal,
    Step,
    StepKind,
    StepState,
    StoredHypothesis,
)
from speech.text.script import join_words
from speech.text.words import Hypothesis
from speech.training.dataset.filters import Filters, disagreement
from tasks import flow
from tasks.runtime import Runtime
from tasks.training.versions import label

TOO_FAR = Filters().max_disagreement


def measure(runtime: Runtime, job: Job) -> Signal | None:
    """Agreement with the refinement, speed and failures of the drafts, over the whole job.

    None where another model drafted it than it was given to, or than we would have chosen.
    """
    if not flow.uses_tuned_draft(job):
        return None
    if job.version_id is not None:
        with runtime.sessions() as session:
            version = session.get(ModelVersion, job.version_id)
        if version is None or job.models.get("draft", {}).get("model") != label(version):
            return None
    draft, refined = aliased(StoredHypothesis), aliased(StoredHypothesis)
    apart = length = 0.0
    chunks = rejected = 0
    with runtime.sessions() as session:
        pairs = session.execute(
            select(draft.content, refined.content)
            .join(refined, (refined.job_id == draft.job_id) & (refined.chunk == draft.chunk))
            .where(draft.job_id == job.id, draft.role == Role.DRAFT, refined.role == Role.REFINED)
            .execution_options(yield_per=100)
        )
        for ours, theirs in pairs:
            texts = [join_words(Hypothesis.from_json(content).words) for content in (ours, theirs)]
            if not any(texts):
                continue
            share = disagreement(*texts)
            weight = max(map(len, texts))
            apart, length = apart + share * weight, length + weight
            chunks, rejected = chunks + 1, rejected + (share > TOO_FAR)
        drafts = select(Step).where(Step.job_id == job.id, Step.kind == StepKind.DRAFT).subquery()
        spent = func.extract("epoch", drafts.c.finished_at - drafts.c.claimed_at)
        seconds, done, dead = session.execute(
            select(
                func.sum(spent).filter(drafts.c.state == StepState.DONE),
                func.count().filter(drafts.c.state == StepState.DONE),
                func.count().filter(drafts.c.state == StepState.DEAD),
            ).select_from(drafts)
        ).one()
        sound = session.scalar(select(func.sum(Chunk.end - Chunk.start)).where(Chunk.job_id == job.id))
    return Signal(
        job_id=job.id,
        tenant=job.tenant,
        version_id=job.version_id,
        agreement=1 - apart / length if length else None,
        rejected=rejected / chunks if chunks else None,
        rtf=float(seconds) / sound if seconds and sound else None,
        errors=dead / max(done + dead, 1),
    )
