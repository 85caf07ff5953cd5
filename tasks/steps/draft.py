"""draft: transcribes chunks with the fast model, for immediate display."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from db.models import EventType, ModelVersion, Role, StepKind
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.search import passages
from db.training import versions
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

logger = logging.getLogger(__name__)


def work(claims: Sequence[Claim], work: Work) -> list[Transcription | Exception]:
    return transcribe(claims, work.runtime, load=_load, make_utterance=utterance)


def _load(runtime: Runtime, chunk_input: ChunkInput) -> SelectedEngine[Transcriber]:
    version = chunk_input.version
    while version is not None:
        try:
            tuned = runtime.engines.version(version)
        except EngineUnavailable as error:
            # drafting continues with the version that served before it
            logger.error("%s", error)
            version = _roll_back(runtime, version, str(error))
        except OSError as error:
            logger.error("a version cannot be kept on this machine's disk: %s", error)
            break
        else:
            if chunk_input.wanted.language is None or chunk_input.wanted.language in tuned.engine.languages:
                return tuned
            break
    return runtime.engines.drafter(chunk_input.wanted)


def _roll_back(runtime: Runtime, version_id: uuid.UUID, reason: str) -> uuid.UUID | None:
    """Returns the version that serves instead."""
    with runtime.sessions.begin() as session:
        version = session.get(ModelVersion, version_id)
        if version is None:
            return None
        with suppress(versions.InvalidTransition):  # another worker was first
            versions.roll_back(session, version, reason)
        serving = versions.serving(session, version.tenant)
        return serving.id if serving is not None and serving.id != version_id else None


def commit(tx: JobTransaction, claim: Claim, transcription: Transcription) -> Mapping[str, Any]:
    processed = store_hypothesis(tx, claim, Role.DRAFT, transcription)
    segments = draft_segments(transcription.hypothesis, chunk=claim.chunk_index, timeline=transcription.timeline)
    speaker = channel_speaker(transcription.channel)
    drafts = [replace(segment, speaker=speaker).to_json() for segment in segments]
    passages.put(tx.session, tx.job, [claim.chunk_index], drafts)
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
