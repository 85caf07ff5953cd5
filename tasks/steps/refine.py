"""refine: transcribes chunks with the strong model, in batches across jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from db import transcripts
from db.models import Role, StepKind
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from speech.engines import Transcriber, Utterance
from speech.load import SelectedEngine
from speech.models.streams import stream_count
from tasks import flow
from tasks.handler import Handler, Work
from tasks.runtime import Runtime
from tasks.steps.transcribe import ChunkInput, Transcription, store_hypothesis, transcribe, utterance

MIN_LANGUAGE_PROBABILITY = 0.8
"""Below it the draft's language is ignored: draft engines mistake unknown languages for those that they know."""


def work(claims: Sequence[Claim], work: Work) -> list[Transcription | Exception]:
    return transcribe(claims, work.runtime, load=_load, make_utterance=_make_utterance)


def _load(runtime: Runtime, chunk_input: ChunkInput) -> SelectedEngine[Transcriber]:
    return runtime.engines.refiner(chunk_input.engine, chunk_input.language, translate=chunk_input.translate)


def _make_utterance(runtime: Runtime, chunk_input: ChunkInput) -> Utterance:
    """The draft's language is expected where it is probable."""
    with runtime.sessions() as session:
        draft = transcripts.hypothesis(
            session, chunk_input.claim.job_id, chunk_input.claim.chunk_index, Role.DRAFT
        )
    is_probable = draft is not None and draft["signals"].get("language_probability", 0) >= MIN_LANGUAGE_PROBABILITY
    return utterance(runtime, chunk_input, detected=draft["language"] if draft and is_probable else None)


def commit(tx: JobTransaction, claim: Claim, transcription: Transcription) -> Mapping[str, Any]:
    processed = store_hypothesis(tx, claim, Role.REFINED, transcription)
    flow.finish_refine(tx, claim.chunk_index)
    return processed


def _batch(runtime: Runtime) -> int:
    """On a CPU two chunks for each stream, since their lengths differ; with more, short jobs would wait."""
    settings = runtime.settings
    if settings.refine_batch:
        return settings.refine_batch
    return (
        16 if runtime.engines.refiner().info.device == "cuda" else 2 * stream_count(settings.refine_thread_count)
    )


handler = Handler(StepKind.REFINE, work, commit, deadline=1800, batch=_batch)
