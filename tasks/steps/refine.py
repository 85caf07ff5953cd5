"""refine: transcribes chunks with the strong model, in batches across jobs."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from db import transcripts
from db.models import Json, Role, StepKind
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.telemetry.gpu import free_share
from speech.engines import EngineUnavailable, ManyAtOnce, Transcriber, Utterance
from speech.load import SelectedEngine
from speech.models.streams import stream_count
from speech.text.redaction.kinds import PLACEHOLDER
from speech.text.script import join_words
from speech.text.vocabulary import Vocabulary
from speech.text.words import Hypothesis
from tasks import flow
from tasks.batching import LearntBatch
from tasks.handler import Handler, Work
from tasks.runtime import Runtime
from tasks.steps import vocabulary
from tasks.steps.transcribe import (
    MOST_AT_ONCE,
    ChunkInput,
    Transcription,
    store_hypothesis,
    transcribe,
    utterance,
)
from tasks.steps.tuned import tuned

MIN_LANGUAGE_PROBABILITY = 0.8
"""Below it the draft's language is ignored: draft engines mistake unknown languages for those that they know."""

MOST_HOTWORDS = 12
"""Of the tenant's vocabulary: those that the draft may have misheard. A long list takes the place of the context,
and a model that is told what nobody says may say it."""

PRECEDING_CHARACTERS = 200
"""Of the text before, as context: a sentence or two."""


def work(claims: Sequence[Claim], work: Work) -> list[Transcription | Exception]:
    batch = _read(claims, work.runtime)
    return transcribe(claims, work.runtime, load=_load, make_utterance=batch.make_utterance)


@dataclass(frozen=True, slots=True)
class _Batch:
    """What is known about the chunks of some claims, and about those before them."""

    drafts: Mapping[tuple[uuid.UUID, int, Role], Json]
    terms: Mapping[str, Vocabulary]

    def make_utterance(self, runtime: Runtime, chunk_input: ChunkInput) -> Utterance:
        """The draft's language is expected where it is probable; its words may lend their times."""
        job, chunk = chunk_input.claim.job_id, chunk_input.claim.chunk_index
        draft = self.drafts.get((job, chunk, Role.DRAFT))
        # of channels that are transcribed apart, the chunk before is another's
        before = self.drafts.get((job, chunk - 1, Role.DRAFT)) if chunk_input.channel is None else None
        certainty = draft["signals"].get("language_probability", 0) if draft else 0
        is_probable = certainty >= MIN_LANGUAGE_PROBABILITY
        made = utterance(runtime, chunk_input, detected=draft["language"] if draft and is_probable else None)
        words = chunk_input.timeline.lift(Hypothesis.from_json(draft)).words if draft else ()
        return replace(
            made,
            draft=words,
            hotwords=(*made.hotwords, *self.terms[chunk_input.claim.tenant].heard_in(words, MOST_HOTWORDS)),
            preceding=_last_words(Hypothesis.from_json(before)) if before else "",
        )


def _read(claims: Sequence[Claim], runtime: Runtime) -> _Batch:
    chunks = {(claim.job_id, chunk) for claim in claims for chunk in (claim.chunk_index - 1, claim.chunk_index)}
    with runtime.sessions() as session:
        return _Batch(
            drafts=transcripts.hypotheses(session, chunks, Role.DRAFT),
            terms=vocabulary.of_tenants(session, {claim.tenant for claim in claims}),
        )


def _load(runtime: Runtime, chunk_input: ChunkInput) -> SelectedEngine[Transcriber]:
    return tuned(runtime, chunk_input) or runtime.engines.refiner(chunk_input.wanted)


def _last_words(hypothesis: Hypothesis) -> str:
    """The end of a text, without what was redacted."""
    text = join_words(word for word in hypothesis.words if not PLACEHOLDER.search(word.text))
    return text[-PRECEDING_CHARACTERS:].partition(" ")[2] if len(text) > PRECEDING_CHARACTERS else text


def commit(tx: JobTransaction, claim: Claim, transcription: Transcription) -> Mapping[str, Any]:
    processed = store_hypothesis(tx, claim, Role.REFINED, transcription)
    flow.finish_refine(tx, claim.chunk_index)
    return processed


def _batch(runtime: Runtime) -> int:
    """On a CPU three chunks for each stream, which decodes them together; with more, short jobs would wait. On a
    GPU what it has shown to be worth it."""
    settings = runtime.settings
    if settings.refine_batch:
        return settings.refine_batch
    try:
        serving = runtime.engines.refiner()
    except EngineUnavailable:
        # the last model was taken out of the operators' file: drafts stand
        return MOST_AT_ONCE
    if isinstance(serving.engine, ManyAtOnce):
        # a server that is never idle while the slowest of a batch is waited for
        return min(2 * serving.engine.capacity, MOST_AT_ONCE)
    if serving.info.device != "cuda":
        return 3 * stream_count(settings.refine_thread_count)
    key = serving.info.model, serving.info.device
    if key not in runtime.learnt_batches:
        runtime.learnt_batches[key] = LearntBatch(serving.info.model, free_share)
    return runtime.learnt_batches[key].size


handler = Handler(StepKind.REFINE, work, commit, deadline=1800, batch=_batch)
