"""Shared by draft and refine: loading chunks, running engines over batches, storing hypotheses."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from sqlalchemy import func, select

from db.access import redaction, usage
from db.access.redaction import Redaction
from db.logs import describe
from db.models import Chunk, Job, Json, ModelVersion, Role, Step, StepKind, StoredHypothesis, Tenant
from db.objects.storage import ObjectMissing
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.telemetry import metrics
from db.training import versions
from http_engines.errors import Refused, RemoteError
from speech.audio import flac
from speech.engines import (
    SAMPLE_RATE,
    EngineAway,
    EngineInfo,
    EngineUnavailable,
    ManyAtOnce,
    SomeFailed,
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
from tasks.engines import Wanted
from tasks.errors import Awaited, Broken, LeaseLost, StepError, Transient, Unserved
from tasks.runtime import Runtime

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChunkInput:
    """A claimed chunk, with what its engine needs."""

    claim: Claim
    tenant: str
    wanted: Wanted
    timeline: Timeline
    key: str
    options: Json
    version: uuid.UUID | None
    """The tuned model of the job, or the serving one if that was rolled back since."""
    redaction: Redaction
    channel: int | None
    late_at: float | None
    """When nobody waits for its refinement any more, in monotonic seconds."""

    @property
    def is_late(self) -> bool:
        return self.late_at is not None and time.monotonic() >= self.late_at

    @property
    def chosen_by(self) -> tuple[Wanted, uuid.UUID | None]:
        """All that its engine is chosen by."""
        return self.wanted, self.version


@dataclass(frozen=True, slots=True)
class Transcription:
    """An engine's hypothesis for a chunk, in seconds of the recording, without what is to be redacted."""

    hypothesis: Hypothesis
    engine: EngineInfo
    timeline: Timeline
    channel: int | None
    original: bytes | None
    """What was redacted, sealed; None where that is not kept."""


MOST_AT_ONCE = 64
"""Chunks in one batch for a server, of two megabytes each."""

MOST_STANDING_IN = 8
"""Of these, chunks that an engine of this machine does in place of a server; the others wait for their turn."""

AWAIT_SECONDS = 1.0
"""Between two attempts at a chunk whose model is away: meanwhile others have its place in the queue."""

CHUNK_URL_SECONDS = 900
"""How long an engine that fetches the audio itself has for it."""

Load = Callable[[Runtime, ChunkInput], SelectedEngine[Transcriber]]
"""Chooses the engine of a chunk by the job's options, its language and its version."""
MakeUtterance = Callable[[Runtime, ChunkInput], Utterance]


def transcribe(
    claims: Sequence[Claim], runtime: Runtime, *, load: Load, make_utterance: MakeUtterance
) -> list[Transcription | Exception]:
    """Transcribe each chunk with its engine: one batch per engine, across jobs."""
    inputs = _load_chunks(claims, runtime)
    outputs: dict[int, Transcription | Exception] = {}
    batches: dict[tuple[Wanted, uuid.UUID | None], list[ChunkInput]] = defaultdict(list)
    for claim in claims:
        if claim.id in inputs:
            each = inputs[claim.id]
            batches[each.chosen_by].append(each)
        else:
            outputs[claim.id] = LeaseLost(f"chunk {claim.chunk} of job {claim.job_id} was deleted")
    members: list[Member] = []
    for batch in batches.values():
        try:
            serving = load(runtime, batch[0])
        except EngineUnavailable as error:
            failed = _unavailable(batch[0], error)
            outputs |= {chunk_input.claim.id: failed for chunk_input in batch}
        else:
            members += [Member(chunk_input, serving) for chunk_input in batch]
    while members:
        after: list[Member] = []
        groups: dict[int, list[Member]] = defaultdict(list)
        for member in members:
            groups[id(member.serving.engine)].append(member)
        for group in groups.values():
            run = _run(group, runtime, make_utterance)
            for member in group:
                output: Transcription | Member | Exception = run[member.chunk_input.claim.id]
                if isinstance(output, EngineAway):
                    output = _stand_in(member, output, after)
                if isinstance(output, Member):
                    after.append(output)
                else:
                    outputs[member.chunk_input.claim.id] = _as_step_error(output, member.chunk_input)
        members = after
    return [outputs[claim.id] for claim in claims]


@dataclass(frozen=True, slots=True)
class Member:
    """A chunk, and the engine that it is to be transcribed with."""

    chunk_input: ChunkInput
    serving: SelectedEngine[Transcriber]


def _stand_in(member: Member, away: EngineAway, others: Sequence[Member]) -> Member | Exception:
    """The same with the next engine, which has those of the ``others`` that are its own to do, too."""
    if member.serving.next is None:
        return away
    try:
        serving = member.serving.next()
    except EngineUnavailable as error:
        logger.warning("nothing stands in for %s: %s", member.serving.info.model, error)
        return away
    alike = sum(other.serving.engine is serving.engine for other in others)
    if not isinstance(serving.engine, ManyAtOnce) and alike >= MOST_STANDING_IN:
        return Awaited(f"{serving.info.model} stands in, and has enough to do")
    return Member(member.chunk_input, serving)


def _unavailable(chunk_input: ChunkInput, error: EngineUnavailable) -> StepError:
    """A model that is gone from the operators' file costs a job no more than one that is away."""
    configured = chunk_input.wanted.engine is None and chunk_input.claim.kind == StepKind.REFINE
    if configured or chunk_input.wanted.model is not None:
        return Unserved(str(error))
    return Broken("engine_unavailable", str(error))


def _as_step_error(output: Transcription | Exception, chunk_input: ChunkInput) -> Transcription | Exception:
    """What the failure of a model behind HTTP means for the step."""
    match output:
        case EngineAway() | RemoteError() if chunk_input.is_late:
            return Unserved(f"{output} Nobody waits for the chunk any more.")
        case EngineAway():
            return Unserved(str(output)) if output.for_good else Awaited(str(output), delay=AWAIT_SECONDS)
        case Refused():
            return Unserved(str(output))
        case RemoteError():
            return Transient(str(output))
    return output


def _load_chunks(claims: Sequence[Claim], runtime: Runtime) -> dict[int, ChunkInput]:
    by_step = {claim.id: claim for claim in claims}
    # claims are of one kind
    role = Role.DRAFT if claims[0].kind == StepKind.DRAFT else Role.REFINED
    assigned_version = Job.version_id if role == Role.DRAFT else Job.refined_version_id
    with runtime.sessions() as session:
        rows = session.execute(
            select(
                Step.id,
                Chunk,
                Job.language,
                Job.options,
                Job.tenant,
                assigned_version.label("assigned"),
                ModelVersion.id.label("usable"),
                Tenant,
                func.extract("epoch", func.clock_timestamp() - Step.created_at).label("waited"),
            )
            .join(Chunk, (Chunk.job_id == Step.job_id) & (Chunk.index == Step.chunk))
            .join(Job, Job.id == Step.job_id)
            .outerjoin(Tenant, Tenant.name == Job.tenant)
            .outerjoin(
                ModelVersion,
                (ModelVersion.id == assigned_version) & ModelVersion.state.in_(versions.USABLE_STATES),
            )
            .where(Step.id.in_(by_step))
        ).all()
        inputs = {}
        for step, chunk, language, options, tenant, assigned, version, tenant_row, waited in rows:
            claim = by_step[step]
            serving = versions.serving(session, tenant, role) if assigned and version is None else None
            if serving is not None:
                version = serving.id
            inputs[claim.id] = ChunkInput(
                claim,
                tenant,
                Wanted(
                    options.get(f"{claim.kind}_engine"),
                    language,
                    options.get(f"{claim.kind}_model"),
                    bool(options.get("translate")),
                ),
                Timeline.of(chunk.spans),
                chunk.key,
                options,
                version,
                redaction.of_row(tenant_row, options, runtime.settings),
                chunk.channel,
                _late_at(claim, options, float(waited), runtime),
            )
        return inputs


def _late_at(claim: Claim, options: Json, waited: float, runtime: Runtime) -> float | None:
    allowed = options.get("degrade_after", runtime.settings.degrade_after)
    if claim.kind != StepKind.REFINE or allowed is None:
        return None
    return time.monotonic() + float(allowed) - waited


def _run(
    members: Sequence[Member], runtime: Runtime, make_utterance: MakeUtterance
) -> dict[int, Transcription | Exception]:
    """All with the engine of the first."""
    outputs: dict[int, Transcription | Exception] = {}
    ready: list[tuple[ChunkInput, EngineInfo, Utterance]] = []
    for member in members:
        chunk_input = member.chunk_input
        try:
            ready.append((chunk_input, member.serving.info, make_utterance(runtime, chunk_input)))
        except ObjectMissing:
            outputs[chunk_input.claim.id] = Broken(
                "audio_missing", f"The audio of chunk {chunk_input.claim.chunk} is no longer in storage."
            )
    serving = members[0].serving
    hypotheses = _transcribe_timed(serving, [utterance for *_, utterance in ready], runtime) if ready else []
    for (chunk_input, info, utterance), hypothesis in zip(ready, hypotheses, strict=True):
        if isinstance(hypothesis, Exception):
            outputs[chunk_input.claim.id] = hypothesis
        else:
            # those that its draft may have misheard
            if utterance.draft and serving.engine.takes_hotwords:
                hypothesis = replace(hypothesis, told_terms=True)
            outputs[chunk_input.claim.id] = _redacted_or_error(runtime, chunk_input, info, hypothesis)
    return outputs


def _transcribe_timed(
    serving: SelectedEngine[Transcriber], utterances: Sequence[Utterance], runtime: Runtime
) -> list[Hypothesis | Exception]:
    began = time.perf_counter()
    hypotheses = _transcribe_bisecting(serving.engine, utterances, runtime)
    spoken = sum(len(utterance.samples) for utterance in utterances) / SAMPLE_RATE
    took = time.perf_counter() - began
    if spoken and any(isinstance(hypothesis, Hypothesis) for hypothesis in hypotheses):
        metrics.observe(metrics.asr_rtf.labels(serving.info.engine), took / spoken)
    learnt = runtime.learnt_batches.get((serving.info.model, serving.info.device))
    if learnt is not None:
        learnt.learn(len(utterances), spoken, took)
    return hypotheses


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
        return Transcription(hypothesis, engine, timeline, chunk_input.channel, None)
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
    return Transcription(hypothesis, engine, timeline, chunk_input.channel, sealed)


def _transcribe_bisecting(
    engine: Transcriber, utterances: Sequence[Utterance], runtime: Runtime
) -> list[Hypothesis | Exception]:
    """Halve a failing batch until the faulty chunk is alone. Out of memory: keep to small batches for good."""
    try:
        return list(engine.transcribe(utterances))
    except SomeFailed as error:
        return list(error.outputs)
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
        expected=detected or chunk_input.wanted.language,
        hotwords=tuple(chunk_input.options.get("hotwords", ())),
        translate=chunk_input.wanted.translate,
        url=runtime.storage.presign(chunk_input.key, "chunk.flac", CHUNK_URL_SECONDS),
        late_at=chunk_input.late_at,
    )


def store_hypothesis(tx: JobTransaction, claim: Claim, role: Role, transcription: Transcription) -> Json:
    """Insert the hypothesis, and record which model served the job. Returns what the step has processed."""
    engine = asdict(replace(transcription.engine, word_times=transcription.hypothesis.word_times))
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
    # chunks of one job may be served by several; what is said beside their names is of the latest
    named = (tx.job.models.get(claim.kind) or {}).get("served_by", [])
    served_by = sorted({*named, transcription.engine.model})
    tx.job.models = tx.job.models | {str(claim.kind): engine | {"served_by": served_by}}
    return usage.processed(transcription.timeline.seconds, engine)
