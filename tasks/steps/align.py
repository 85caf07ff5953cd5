"""align: compares the draft with the refinement, and decides on the chunk's final segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select, tuple_

from db import speakers, transcripts
from db.models import Chunk, EventType, Job, Json, Role, StepKind
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.telemetry import metrics
from speech.asr.alignment.align import Alignment, align
from speech.speakers.labels import label_segments
from speech.text.timeline import Timeline
from speech.text.vocabulary import Vocabulary
from speech.text.words import Hypothesis, Turn, channel_speaker
from tasks import flow
from tasks.errors import Broken, LeaseLost
from tasks.handler import Handler, Work
from tasks.steps import vocabulary
from tasks.steps.segments import store_segments

BATCH = 8
"""Chunks aligned with one claim: each takes milliseconds, less than its claim."""


@dataclass(frozen=True, slots=True)
class AlignOutput:
    """The final segments of a chunk, and its channel if channels are transcribed separately."""

    alignment: Alignment
    channel: int | None


def work(claims: Sequence[Claim], work: Work) -> list[AlignOutput | Exception]:
    chunks = [(claim.job_id, claim.chunk_index) for claim in claims]
    with work.runtime.sessions() as session:
        hypotheses = transcripts.hypotheses(session, chunks, Role.DRAFT, Role.REFINED)
        found = session.execute(
            select(Chunk, Job.options, Job.tenant)
            .join(Job, Job.id == Chunk.job_id)
            .where(tuple_(Chunk.job_id, Chunk.index).in_(chunks))
        ).all()
        terms = vocabulary.of_tenants(session, {row.tenant for row in found})
    rows = {(chunk.job_id, chunk.index): (chunk, options, terms[tenant]) for chunk, options, tenant in found}
    outputs: list[AlignOutput | Exception] = []
    for job_id, index in chunks:
        draft, refined = (hypotheses.get((job_id, index, role)) for role in (Role.DRAFT, Role.REFINED))
        if (job_id, index) not in rows:
            outputs.append(LeaseLost(f"chunk {index} of job {job_id} was deleted"))
        elif draft is None and refined is None:
            outputs.append(Broken("transcription_failed", f"No model could transcribe chunk {index}."))
        else:
            outputs.append(_align(*rows[job_id, index], draft, refined))
    return outputs


def _align(
    chunk: Chunk, options: Json, terms: Vocabulary, draft: Json | None, refined: Json | None
) -> AlignOutput | Exception:
    try:
        alignment = align(
            Hypothesis.from_json(draft) if draft else None,
            Hypothesis.from_json(refined) if refined else None,
            chunk=chunk.index,
            timeline=Timeline.of(chunk.spans),
            digits=bool(options.get("digits")),
            vocabulary=terms,
        )
    except Exception as error:  # noqa: BLE001  (the chunk's own failure)
        return error
    return AlignOutput(alignment, chunk.channel)


def commit(tx: JobTransaction, claim: Claim, output: AlignOutput) -> Mapping[str, Any]:
    # under the job's lock: either the speakers are known by now, or `embed` will label these segments
    alignment = output.alignment
    segments = list(alignment.segments)
    speaker = channel_speaker(output.channel)
    if speaker is not None:
        segments = [replace(segment, speaker=speaker) for segment in segments]
    elif tx.job.speakers_known and segments:
        # what else has changed is written once, at the end
        with tx.session.no_autoflush:
            turns = speakers.turns(tx.session, tx.job.id, segments[0].start, segments[-1].end)
        segments = label_segments(segments, [Turn(**turn) for turn in turns])
    store_segments(tx, segments)
    finals = [segment.to_json() for segment in segments]
    # also where there are none: its drafts are found no more
    tx.found[claim.chunk_index] = finals
    for final in finals:
        tx.emit(EventType.SEGMENT_FINAL, final)
    flow.finish_align(tx)
    if alignment.likeness is not None:
        metrics.draft_agreement.observe(alignment.likeness)
    return {"source": alignment.source, "reasons": list(alignment.reasons)}


handler = Handler(StepKind.ALIGN, work, commit, deadline=120, batch=lambda runtime: BATCH)
