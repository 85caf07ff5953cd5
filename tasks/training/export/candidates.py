"""The segments of a job as candidates for training data: text, speaker, consent and retention."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import groupby

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import speakers
from db.access import tenants
from db.erasure import retention
from db.models import Export, Job, Role, SegmentSource, StoredHypothesis, StoredSegment, StoredSpeaker, StoredVoice
from speech.text.script import join_words
from speech.text.words import Hypothesis
from speech.training.dataset.candidates import Candidate
from speech.training.dataset.text import Cleaning, clean
from tasks.runtime import Runtime


def read_candidates(
    runtime: Runtime, export: Export, job_id: uuid.UUID, cleaning: Cleaning
) -> Iterator[tuple[int, str, Candidate]]:
    """Chunk, speaker label and candidate for each segment, in order; none of a translation."""
    with runtime.sessions() as session:
        job = session.get(Job, job_id)
        if job is None or job.options.get("translate"):
            return
        consents = _consents(session, job)
        refused = [turn for turn in speakers.turns(session, job_id) if not consents.get(turn["speaker"], True)]
        segments = session.scalars(
            select(StoredSegment).where(StoredSegment.job_id == job_id).order_by(StoredSegment.index)
        ).all()
        retained = _is_retained(runtime, session, job, export)
        for chunk, group in groupby(segments, key=lambda segment: segment.chunk):
            hypotheses = {
                row.role: Hypothesis.from_json(row.content)
                for row in session.scalars(
                    select(StoredHypothesis).where(
                        StoredHypothesis.job_id == job_id, StoredHypothesis.chunk == chunk
                    )
                )
            }
            draft, refined = hypotheses.get(Role.DRAFT), hypotheses.get(Role.REFINED)
            for segment in group:
                label, human, confidence = _attribution(segment, consents)
                text = clean(segment.text, segment.language or job.language, cleaning)
                candidate = Candidate(
                    job=str(job_id),
                    segment=segment.index,
                    source=str(job.options.get("source") or job.tenant),
                    at=job.created_at,
                    start=segment.start,
                    end=segment.end,
                    text=text,
                    language=segment.language or job.language,
                    speaker=f"{job_id}/{label}",
                    human=human,
                    confidence=confidence,
                    draft=_text_between(draft, segment.start, segment.end),
                    refined=_text_between(refined, segment.start, segment.end),
                    consent=consents[label]
                    and consents.get((segment.machine or {}).get("speaker") or "", True)
                    # segments are joined, and people say who speaks in them: the sound stays whose it is
                    and not any(turn["start"] < segment.end and turn["end"] > segment.start for turn in refused),
                    retained=retained,
                    itn=draft.itn if draft else None,
                    emotion=draft.emotion if draft else None,
                    event=draft.event if draft else None,
                )
                yield chunk, label, candidate


def _attribution(segment: StoredSegment, consents: Mapping[str, bool]) -> tuple[str, bool, float]:
    """Speaker label, whether a person corrected or confirmed the words, and their confidence.

    A name that a person typed in has no voiceprint: consent is looked up by the machine's label.
    """
    machine = segment.machine or {}
    label = segment.speaker or ""
    if label not in consents:
        label = machine.get("speaker") or ""
    return label if label in consents else "", segment.source == SegmentSource.HUMAN, segment.confidence


def _consents(session: Session, job: Job) -> dict[str, bool]:
    """Whether each speaker label may be trained on. The job's own option overrides the voices'."""
    rows = session.execute(
        select(StoredSpeaker.label, StoredSpeaker.voice_id, StoredVoice.id, StoredVoice.training)
        .outerjoin(StoredVoice, StoredVoice.id == StoredSpeaker.voice_id)
        .where(StoredSpeaker.job_id == job.id)
    )
    allowed = job.options.get("training") is not False
    # speakers of a deleted voice keep its id if it had refused
    return {"": allowed} | {
        label: allowed and voice_id == existing and consent is not False
        for label, voice_id, existing, consent in rows
    }


def _is_retained(runtime: Runtime, session: Session, job: Job, export: Export) -> bool:
    """Whether the recording is kept beyond the end of the export's span."""
    tenant = tenants.get(session, job.tenant)
    days = (
        retention.transcript_days(job, tenant, runtime.settings),
        retention.audio_days(tenant, runtime.settings),
    )
    if job.audio_erased_at is not None:
        return False
    return all(kept is None or kept > (export.until - job.created_at) / timedelta(days=1) for kept in days)


def _text_between(hypothesis: Hypothesis | None, start: float, end: float) -> str | None:
    """The words whose middle lies in the span."""
    if hypothesis is None:
        return None
    return join_words(word for word in hypothesis.words if start <= (word.start + word.end) / 2 <= end)
