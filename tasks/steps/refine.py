"""refine: the strong model's reading of a chunk, many chunks of many jobs at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from db import transcripts
from db.models import Role, StepKind
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from speech.asr.alignment import refinement_doubts
from speech.engines import Transcriber, Utterance
from speech.load import Serving
from speech.models.streams import stream_count
from speech.text.words import Hypothesis, Phrase
from tasks import flow
from tasks.handler import Handler, Work
from tasks.runtime import Runtime
from tasks.steps.transcribe import ChunkInput, Transcription, store, transcribe, utterance

MIN_LANGUAGE_PROBABILITY = 0.8
"""A draft engine knows fewer languages, and takes those that it does not know for one of its own."""


def work(claims: Sequence[Claim], work: Work) -> list[Transcription | Exception]:
    return transcribe(claims, work.runtime, load=_load, make_utterance=_make_utterance)


def _load(runtime: Runtime, piece: ChunkInput) -> Serving[Transcriber]:
    return runtime.engines.refiner(piece.engine, piece.language)


MAX_PROMPT_TEMPERATURE = 0.5
"""The temperature of decoding beyond which text is no ground to build on."""

PROMPT_CHUNKS = 3
"""Chunks before this one whose text may be heard: more does not fit into a prompt."""


def _make_utterance(runtime: Runtime, piece: ChunkInput) -> Utterance:
    """Where the draft has heard well which language it is, that is to be expected."""
    job_id, chunk = piece.claim.job_id, piece.claim.chunk_index
    with runtime.sessions() as session:
        draft = transcripts.hypothesis(session, job_id, chunk, Role.DRAFT)
        earlier = transcripts.previous_refined(session, job_id, chunk, PROMPT_CHUNKS)
    sure = draft is not None and draft["signals"].get("language_probability", 0) >= MIN_LANGUAGE_PROBABILITY
    heard = draft["language"] if draft and sure else None
    return utterance(runtime, piece, heard=heard, history=history(earlier))


def history(earlier: Sequence[tuple[float, Any]]) -> tuple[Phrase, ...]:
    """The text before, oldest first, as far back as it was refined without doubts: errors would go on."""
    phrases: list[Phrase] = []
    for start, content in earlier:
        if content is None:
            break
        hypothesis = Hypothesis.from_json(content)
        if hypothesis.signals.get("temperature", 0) > MAX_PROMPT_TEMPERATURE or refinement_doubts(
            None, hypothesis
        ):
            break
        spoken = (
            replace(phrase, language=phrase.language or hypothesis.language) for phrase in hypothesis.phrases
        )
        phrases = [*(phrase.shifted(-start) for phrase in spoken), *phrases]
    return tuple(phrases)


def commit(tx: JobTransaction, claim: Claim, reading: Transcription) -> Mapping[str, Any] | None:
    store(tx, claim, Role.REFINED, reading)
    flow.finish_refine(tx, claim.chunk_index)
    return None


def _batch(runtime: Runtime) -> int:
    """On a CPU two for each stream, since their lengths differ; a short job would wait for more."""
    settings = runtime.settings
    if settings.refine_batch:
        return settings.refine_batch
    return (
        16 if runtime.engines.refiner().info.device == "cuda" else 2 * stream_count(settings.refine_thread_count)
    )


handler = Handler(StepKind.REFINE, work, commit, deadline=1800, batch=_batch)
