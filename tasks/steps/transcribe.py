"""Shared by draft and refine: loading chunks, running engines over batches, storing hypotheses."""

from __future__ import annotations

import json
import logging
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import select

from db.access import redaction, usage
from db.access.redaction import Redaction
from db.logs import describe
from db.models import Chunk, Job, Json, ModelVersion, Role, StepKind, StoredHypothesis
from db.objects.storage import ObjectMissing
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.training import versions
from speech.audio import flac
from speech.engines import (
    EngineInfo,
    EngineUnavailable,
    Transcriber,
    Utterance,
    device_lost,
    out_of_memory,
)
from speech.load import SelectedEngine
from speech.text.numbers import hypothesis_with_digits
from speech.text.redaction.kinds import PersonalData
from speech.text.redaction.redact import redact
from speech.text.timeline import Timeline
from speech.text.words import Hypothesis
from tasks.errors import LeaseLost, Permanent
from tasks.runtime import Runtime

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChunkInput:
    """A claimed chunk, with what its engine needs."""

    claim: Claim
    engine: str | None
    timeline: Timeline
    key: str
    language: str | None
    options: Json
    version: uuid.UUID | None
    """The tuned model of the job, or the serving one if that was rolled back since."""
    redaction: Redaction

    @property
    def translate(self) -> bool:
        return bool(self.options.get("translate"))


@dataclass(frozen=True, slots=True)
class Transcription:
    """An engine's hypothesis for a chunk, in seconds of the recording, without what is to be redacted."""

    hypothesis: Hypothesis
    engine: EngineInfo
    timeline: Timeline
    original: bytes | None
    """What was redacted, sealed; None where that is not kept."""


Load = Callable[[Runtime, ChunkInput], SelectedEngine[Transcriber]]
"""Chooses the engine of a chunk by the job's options, its language and its version."""
MakeUtterance = Callable[[Runtime, ChunkInput], Utterance]


def transcribe(
    claims: Sequence[Claim], runtime: Runtime, *, load: Load, make_utterance: MakeUtterance
) -> list[Transcription | Exception]:
    """Transcribe each chunk with its engine: one batch per engine, across jobs."""
    inputs = _load_chunks(claims, runtime)
    outputs: dict[int, Transcription | Exception] = {}
    batches: dict[tuple[str | None, str | None, uuid.UUID | None], list[ChunkInput]] = defaultdict(list)
    for claim in claims:
        if claim.id in inputs:
            chunk_input = inputs[claim.id]
            batches[chunk_input.engine, chunk_input.language, chunk_input.version].append(chunk_input)
        else:
            outputs[claim.id] = LeaseLost(f"chunk {claim.chunk} of job {claim.job_id} was deleted")
    groups: dict[int, tuple[Transcriber, list[tuple[ChunkInput, EngineInfo]]]] = {}
    for batch in batches.values():
        try:
            serving = load(runtime, batch[0])
        except EngineUnavailable as error:
            failed = Permanent("engine_unavailable", str(error))
            outputs |= {chunk_input.claim.id: failed for chunk_input in batch}
        else:
            _, members = groups.setdefault(id(serving.engine), (serving.engine, []))
            members += [(chunk_input, serving.info) for chunk_input in batch]
    for engine, members in groups.values():
        outputs |= _run(engine, members, runtime, make_utterance)
    return [outputs[claim.id] for claim in claims]


def _load_chunks(claims: Sequence[Claim], runtime: Runtime) -> dict[int, ChunkInput]:
    with runtime.sessions() as session:
        inputs = {}
        for claim in claims:
            row = session.execute(
                select(
                    Chunk, Job.language, Job.options, Job.tenant, Job.version_id, ModelVersion.id.label("usable")
                )
                .join(Job, Job.id == Chunk.job_id)
                .outerjoin(
                    ModelVersion,
                    (ModelVersion.id == Job.version_id) & ModelVersion.state.in_(versions.USABLE_STATES),
                )
                .where(Chunk.job_id == claim.job_id, Chunk.index == claim.chunk)
            ).one_or_none()
            if row is not None:
                chunk, language, options, tenant, assigned, version = row
                if assigned is not None and version is None and (serving := versions.serving(session, tenant)):
                    version = serving.id
                engine = options.get("draft_engine" if claim.kind == StepKind.DRAFT else "refine_engine")
                inputs[claim.id] = ChunkInput(
                    claim,
                    engine,
                    Timeline.of(chunk.spans),
                    chunk.key,
                    language,
                    options,
                    version,
                    redaction.of_job(session, tenant, options, runtime.settings),
                )
        return inputs


def _run(
    engine: Transcriber,
    members: Sequence[tuple[ChunkInput, EngineInfo]],
    runtime: Runtime,
    make_utterance: MakeUtterance,
) -> dict[int, Transcription | Exception]:
    outputs: dict[int, Transcription | Exception] = {}
    ready: list[tuple[ChunkInput, EngineInfo, Utterance]] = []
    for chunk_input, info in members:
        try:
            ready.append((chunk_input, info, make_utterance(runtime, chunk_input)))
        except ObjectMissing:
            outputs[chunk_input.claim.id] = Permanent(
                "audio_missing", f"The audio of chunk {chunk_input.claim.chunk} is no longer in storage."
            )
    hypotheses = _transcribe_bisecting(engine, [utterance for *_, utterance in ready], runtime) if ready else []
    for (chunk_input, info, _), hypothesis in zip(ready, hypotheses, strict=True):
        if isinstance(hypothesis, Exception):
            outputs[chunk_input.claim.id] = hypothesis
        else:
            outputs[chunk_input.claim.id] = _redacted_or_error(runtime, chunk_input, info, hypothesis)
    return outputs


def _redacted_or_error(
    runtime: Runtime, chunk_input: ChunkInput, engine: EngineInfo, hypothesis: Hypothesis
) -> Transcription | Exception:
    """What cannot be redacted is not stored, and costs no other chunk of the batch anything."""
    try:
        return _redacted(runtime, chunk_input, engine, hypothesis)
    except Exception as error:  # noqa: BLE001  (the chunk's own failure)
        return error


def _redacted(
    runtime: Runtime, chunk_input: ChunkInput, engine: EngineInfo, hypothesis: Hypothesis
) -> Transcription:
    """From here on nothing has the text as it was said, but for what is sealed."""
    timeline, wanted = chunk_input.timeline, chunk_input.redaction
    hypothesis = timeline.place(hypothesis)
    if not wanted.kinds:
        return Transcription(hypothesis, engine, timeline, None)
    if chunk_input.options.get("digits"):
        # what alignment would write in digits must not look different by then
        hypothesis = hypothesis_with_digits(hypothesis)
    hypothesis, originals = redact(
        hypothesis, frozenset(map(PersonalData, wanted.kinds)), runtime.settings.redact_regions
    )
    sealed = None
    if wanted.keep_original and runtime.secrets.can_seal:
        sealed = runtime.secrets.seal(json.dumps([original.to_json() for original in originals]).encode())
    elif wanted.keep_original:
        logger.warning("what is redacted is to be kept, but this worker has no LONGHAND_SECRET_KEY: it is lost")
    return Transcription(hypothesis, engine, timeline, sealed)


def _transcribe_bisecting(
    engine: Transcriber, utterances: Sequence[Utterance], runtime: Runtime
) -> list[Hypothesis | Exception]:
    """Halve a failing batch until the faulty chunk is alone. Out of memory: keep to small batches for good."""
    try:
        return list(engine.transcribe(utterances))
    except Exception as error:
        if device_lost(error):
            raise
        if len(utterances) == 1:
            return [error]
        half = len(utterances) // 2
        if out_of_memory(error):
            runtime.limit_batch_size(half)
        logger.warning("a batch of %d failed, trying its halves: %s", len(utterances), describe(error))
        return [
            *_transcribe_bisecting(engine, utterances[:half], runtime),
            *_transcribe_bisecting(engine, utterances[half:], runtime),
        ]


def utterance(runtime: Runtime, chunk_input: ChunkInput, *, detected: str | None = None) -> Utterance:
    """The chunk's audio with the job's options. Raises ObjectMissing.

    A language that the user names is certain. One that was detected, here or at the recording's beginning, is only
    expected.
    """
    return Utterance(
        samples=flac.decode(runtime.storage.get(chunk_input.key)),
        language=chunk_input.options.get("language"),
        expected=detected or chunk_input.language,
        hotwords=tuple(chunk_input.options.get("hotwords", ())),
        translate=chunk_input.translate,
    )


def store_hypothesis(tx: JobTransaction, claim: Claim, role: Role, transcription: Transcription) -> Json:
    """Insert the hypothesis, and record which model served the job. Returns what the step has processed."""
    engine = asdict(transcription.engine)
    tx.session.add(
        StoredHypothesis(
            job_id=claim.job_id,
            chunk=claim.chunk_index,
            role=role,
            engine=engine,
            content=transcription.hypothesis.to_json(),
            original=transcription.original,
        )
    )
    tx.job.models = tx.job.models | {str(claim.kind): engine}
    return usage.processed(transcription.timeline.seconds, engine)
