"""align: compares the draft with the refinement, and decides on the chunk's final segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import select

from db import speakers, transcripts
from db.models import Chunk, EventType, Job, Role, StepKind
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.telemetry import metrics
from speech.asr.alignment.align import Alignment, align
from speech.speakers.labels import label_segments
from speech.text.timeline import Timeline
from speech.text.words import Hypothesis, Turn, channel_speaker
from tasks import flow
from tasks.errors import LeaseLost, Permanent
from tasks.handler import Handler, Work
from tasks.steps.segments import store_segments


def work(claims: Sequence[Claim], work: Work) -> list[Alignment]:
    (claim,) = claims
    chunk = claim.chunk_index
    with work.runtime.sessions() as session:
        draft = transcripts.hypothesis(session, claim.job_id, chunk, Role.DRAFT)
        refined = transcripts.hypothesis(session, claim.job_id, chunk, Role.REFINED)
        row = session.execute(
            select(Chunk, Job.options)
            .join(Job, Job.id == Chunk.job_id)
            .where(Chunk.job_id == claim.job_id, Chunk.index == chunk)
        ).one_or_none()
    if row is None:
        raise LeaseLost(f"chunk {chunk} of job {claim.job_id} was deleted")
    if draft is None and refined is None:
        raise Permanent("transcription_failed", f"No model could transcribe chunk {chunk}.")
    return [
        align(
            Hypothesis.from_json(draft) if draft else None,
            Hypothesis.from_json(refined) if refined else None,
            chunk=chunk,
            timeline=Timeline.of(row.Chunk.spans),
            digits=bool(row.options.get("digits")),
        )
    ]


def commit(tx: JobTransaction, claim: Claim, alignment: Alignment) -> Mapping[str, Any]:
    # under the job's lock: either the speakers are known by now, or `embed` will label these segments
    segments = list(alignment.segments)
    speaker = channel_speaker(tx.session.get_one(Chunk, (claim.job_id, claim.chunk_index)).channel)
    if speaker is not None:
        segments = [replace(segment, speaker=speaker) for segment in segments]
    elif tx.job.speakers_known and segments:
        turns = speakers.turns(tx.session, tx.job.id, segments[0].start, segments[-1].end)
        segments = label_segments(segments, [Turn(**turn) for turn in turns])
    store_segments(tx, segments)
    for segment in segments:
        tx.emit(EventType.SEGMENT_FINAL, segment.to_json())
    flow.finish_align(tx)
    if alignment.likeness is not None:
        metrics.draft_agreement.observe(alignment.likeness)
    return {"source": alignment.source, "reasons": list(alignment.reasons)}


handler = Handler(StepKind.ALIGN, work, commit, deadline=120)
