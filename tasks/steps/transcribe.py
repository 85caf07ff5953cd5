"""What drafting and refining share: reading chunks, running an engine over a batch, storing hypotheses."""

from __future__ import annotations

import logging
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import select

from db.models import Chunk, Job, Json, ModelVersion, Role, StepKind, StoredHypothesis
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.storage import ObjectMissing
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
from speech.load import Serving
from speech.text.words import Hypothesis, Phrase
from tasks.errors import LeaseLost, Permanent
from tasks.runtime import Runtime

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChunkInput:
    """A claimed chunk with what its engine needs to know."""

    claim: Claim
    engine: str | None
    start: float
    end: float
    key: str
    language: str | None
    options: Json
    version: uuid.UUID | None
    """The tuned model that the job was given to, or the one that serves where that was rolled back since."""


@dataclass(frozen=True, slots=True)
class Transcription:
    """An engine's hypothesis for a chunk, in the recording's time."""

    hypothesis: Hypothesis
    engine: EngineInfo
    start: float
    end: float


Load = Callable[[Runtime, ChunkInput], Serving[Transcriber]]
"""What is to read a chunk, by the engine that its job asks for, its language, and its version."""
MakeUtterance = Callable[[Runtime, ChunkInput], Utterance]


def transcribe(
    claims: Sequence[Claim], runtime: Runtime, *, load: Load, make_utterance: MakeUtterance
) -> list[Transcription | Exception]:
    """Run each chunk through the engine its job asks for, chunks of all jobs in one batch per engine."""
    pieces = _load_chunks(claims, runtime)
    outputs: dict[int, Transcription | Exception] = {}
    batches: dict[tuple[str | None, str | None, uuid.UUID | None], list[ChunkInput]] = defaultdict(list)
    for claim in claims:
        if claim.id in pieces:
            piece = pieces[claim.id]
            batches[piece.engine, piece.language, piece.version].append(piece)
        else:
            outputs[claim.id] = LeaseLost(f"chunk {claim.chunk} of job {claim.job_id} was deleted")
    groups: dict[int, tuple[Transcriber, list[tuple[ChunkInput, EngineInfo]]]] = {}
    for batch in batches.values():
        try:
            serving = load(runtime, batch[0])
        except EngineUnavailable as error:
            failed = Permanent("engine_unavailable", str(error))
            outputs |= {piece.claim.id: failed for piece in batch}
        else:
            _, members = groups.setdefault(id(serving.engine), (serving.engine, []))
            members += [(piece, serving.info) for piece in batch]
    for engine, members in groups.values():
        outputs |= _run(engine, members, runtime, make_utterance)
    return [outputs[claim.id] for claim in claims]


def _load_chunks(claims: Sequence[Claim], runtime: Runtime) -> dict[int, ChunkInput]:
    with runtime.sessions() as session:
        found = {}
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
                chunk, language, options, tenant, given, version = row
                if given is not None and version is None and (serving := versions.serving(session, tenant)):
                    version = serving.id
                engine = options.get("draft_engine" if claim.kind == StepKind.DRAFT else "refine_engine")
                found[claim.id] = ChunkInput(
                    claim, engine, chunk.start, chunk.end, chunk.key, language, options, version
                )
        return found


def _run(
    engine: Transcriber,
    members: Sequence[tuple[ChunkInput, EngineInfo]],
    runtime: Runtime,
    make_utterance: MakeUtterance,
) -> dict[int, Transcription | Exception]:
    outputs: dict[int, Transcription | Exception] = {}
    ready: list[tuple[ChunkInput, EngineInfo, Utterance]] = []
    for piece, info in members:
        try:
            ready.append((piece, info, make_utterance(runtime, piece)))
        except ObjectMissing:
            outputs[piece.claim.id] = Permanent(
                "audio_missing", f"The audio of chunk {piece.claim.chunk} is no longer in storage."
            )
    hypotheses = _transcribe_bisecting(engine, [utterance for *_, utterance in ready], runtime) if ready else []
    for (piece, info, _), hypothesis in zip(ready, hypotheses, strict=True):
        if isinstance(hypothesis, Exception):
            outputs[piece.claim.id] = hypothesis
        else:
            reading = Transcription(hypothesis.shifted(piece.start), info, piece.start, piece.end)
            outputs[piece.claim.id] = reading
    return outputs


def _transcribe_bisecting(
    engine: Transcriber, utterances: Sequence[Utterance], runtime: Runtime
) -> list[Hypothesis | Exception]:
    """Halve a batch that fails until what is at fault stands alone; out of memory, keep to small ones for good."""
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
        logger.warning("a batch of %d failed, trying its halves: %s", len(utterances), error)
        return [
            *_transcribe_bisecting(engine, utterances[:half], runtime),
            *_transcribe_bisecting(engine, utterances[half:], runtime),
        ]


def utterance(
    runtime: Runtime, piece: ChunkInput, *, heard: str | None = None, history: tuple[Phrase, ...] = ()
) -> Utterance:
    """The chunk's audio with the job's wishes. Raises ObjectMissing.

    The language that its user names is certain; one that was heard, here or in the recording's beginning, is only
    to be expected.
    """
    return Utterance(
        samples=flac.decode(runtime.storage.get(piece.key)),
        language=piece.options.get("language"),
        expected=heard or piece.language,
        history=history,
        hotwords=tuple(piece.options.get("hotwords", ())),
    )


def store(tx: JobTransaction, claim: Claim, role: Role, reading: Transcription) -> None:
    """Keep a hypothesis for good, and note which model served the job."""
    engine = asdict(reading.engine)
    tx.session.add(
        StoredHypothesis(
            job_id=claim.job_id,
            chunk=claim.chunk_index,
            role=role,
            engine=engine,
            content=reading.hypothesis.to_json(),
        )
    )
    tx.job.models = tx.job.models | {str(claim.kind): engine}
