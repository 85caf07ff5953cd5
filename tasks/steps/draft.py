"""draft: transcribes chunks with the fast model, for immediate display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from db.models import EventType, Role, StepKind
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from speech.asr.alignment.segments import draft_segments
from speech.engines import EngineUnavailable, ManyAtOnce, Transcriber
from speech.load import SelectedEngine
from speech.text.words import Hypothesis, channel_speaker
from tasks import flow
from tasks.handler import Handler, Work
from tasks.runtime import Runtime
from tasks.steps.transcribe import (
    MOST_AT_ONCE,
    ChunkInput,
    Transcription,
    store_hypothesis,
    transcribe,
    utterance,
)
from tasks.steps.tuned import tuned


def work(claims: Sequence[Claim], work: Work) -> list[Transcription | Exception]:
    return transcribe(claims, work.runtime, load=_load, make_utterance=utterance)


def _load(runtime: Runtime, chunk_input: ChunkInput) -> SelectedEngine[Transcriber]:
    return tuned(runtime, chunk_input) or runtime.engines.drafter(chunk_input.wanted)


def commit(tx: JobTransaction, claim: Claim, transcription: Transcription) -> Mapping[str, Any]:
    processed = store_hypothesis(tx, claim, Role.DRAFT, transcription)
    segments = draft_segments(transcription.hypothesis, chunk=claim.chunk_index, timeline=transcription.timeline)
    speaker = channel_speaker(transcription.channel)
    drafts = [replace(segment, speaker=speaker).to_json() for segment in segments]
    tx.found[claim.chunk_index] = drafts
    for draft in drafts:
        tx.emit(EventType.SEGMENT_DRAFT, draft)
    confidence = mean_confidence(transcription.hypothesis)
    flow.finish_draft(tx, claim.chunk_index, confidence)
    return {"confidence": round(confidence, 3)} | processed


def mean_confidence(hypothesis: Hypothesis) -> float:
    """Mean confidence of the words. 0 without words, so that such a chunk gets refined."""
    words = hypothesis.words
    return sum(word.confidence for word in words) / len(words) if words else 0.0


def _batch(runtime: Runtime) -> int:
    try:
        engine = runtime.engines.drafter().engine
    except EngineUnavailable:
        return runtime.settings.draft_batch
    return (
        min(2 * engine.capacity, MOST_AT_ONCE) if isinstance(engine, ManyAtOnce) else runtime.settings.draft_batch
    )


handler = Handler(StepKind.DRAFT, work, commit, deadline=600, batch=_batch)
