"""diarize: finds the speakers of a chunk, still unnamed, with their voiceprints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sqlalchemy import select, tuple_

from db.access import usage
from db.models import Chunk, Job, Json, StepKind
from db.objects.storage import ObjectMissing, job_prefix
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from speech.audio import flac
from speech.engines import SAMPLE_RATE, EngineInfo, EngineUnavailable, Samples
from speech.speakers.diarization import ChunkDiarizer
from speech.text.timeline import Timeline
from tasks import flow
from tasks.errors import Broken, LeaseLost
from tasks.handler import Handler, Work
from tasks.runtime import Runtime


@dataclass(frozen=True, slots=True)
class DiarizeOutput:
    """The key of the stored result, and the engines that made it."""

    key: str
    diarize: EngineInfo
    embed: EngineInfo | None
    seconds: float
    """Audio of the chunk, or of all chunks."""


def work(claims: Sequence[Claim], work: Work) -> list[DiarizeOutput | Exception]:
    whole = {claim.job_id for claim in claims if claim.chunk is None}
    some = {(claim.job_id, claim.chunk_index) for claim in claims if claim.chunk is not None}
    with work.runtime.sessions() as session:
        rows = session.execute(select(Job.id, Job.options).where(Job.id.in_({claim.job_id for claim in claims})))
        options = {row.id: row.options for row in rows}
        wanted = Chunk.job_id.in_(whole) | tuple_(Chunk.job_id, Chunk.index).in_(some)
        chunks = session.scalars(select(Chunk).where(wanted).order_by(Chunk.index)).all()
    outputs: list[DiarizeOutput | Exception] = []
    for claim in claims:
        of_claim = [
            chunk for chunk in chunks if chunk.job_id == claim.job_id and claim.chunk in (None, chunk.index)
        ]
        if claim.job_id in options and (of_claim or claim.chunk is None):
            outputs.append(_diarize_chunks(claim, of_claim, options[claim.job_id], work.runtime))
        else:
            outputs.append(LeaseLost(f"{claim.kind} step {claim.id}: its recording was deleted"))
    return outputs


def _diarize_chunks(
    claim: Claim, chunks: Sequence[Chunk], options: Json, runtime: Runtime
) -> DiarizeOutput | Exception:
    try:
        serving = runtime.engines.diarizer(options.get("diarize_engine"), options.get("voice_engine"))
        if isinstance(serving.engine, ChunkDiarizer):
            (timeline, samples), *_ = _audio(chunks, runtime)
            speakers = serving.engine.diarize_chunk(samples, timeline).to_bytes()
            key = f"{job_prefix(claim.job_id)}speakers/{claim.chunk_index:05d}-{claim.fence}.npz"
            runtime.storage.put(key, speakers, "application/octet-stream")
            return DiarizeOutput(key, serving.info, serving.engine.embedder.info, timeline.seconds)
        least, most = speaker_bounds(options)
        pieces = _audio(chunks, runtime)
        seconds = sum(timeline.seconds for timeline, _ in pieces)
        recording = assemble_recording(pieces)
        del pieces  # hours of samples, which are in the recording now
        turns = serving.engine.diarize(recording, min_speakers=least, max_speakers=most)
        key = f"{job_prefix(claim.job_id)}speakers/turns-{claim.fence}.json"
        body = json.dumps([asdict(turn) for turn in turns]).encode()
        runtime.storage.put(key, body, "application/json")
        return DiarizeOutput(key, serving.info, None, seconds)
    except EngineUnavailable as error:
        return Broken("engine_unavailable", str(error))
    except ObjectMissing as error:
        return Broken("audio_missing", f"The audio of job {claim.job_id} is no longer in storage: {error}")


def _audio(chunks: Sequence[Chunk], runtime: Runtime) -> list[tuple[Timeline, Samples]]:
    """(timeline, samples) of each. Raises ObjectMissing."""
    return [(Timeline.of(chunk.spans), flac.decode(runtime.storage.get(chunk.key))) for chunk in chunks]


def assemble_recording(pieces: Sequence[tuple[Timeline, Samples]]) -> Samples:
    """The recording from its chunks, with silence between them."""
    recording = np.zeros(round(max((t.end for t, _ in pieces), default=0.0) * SAMPLE_RATE), np.float32)
    for timeline, samples in pieces:
        at = 0
        for start, end in timeline.stretches:
            first, last = round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)
            recording[first:last] = samples[at : at + last - first]
            at += last - first
    return recording


def speaker_bounds(options: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """The fewest and the most speakers that a job allows."""
    exactly = options.get("speakers")
    return exactly or options.get("min_speakers"), exactly or options.get("max_speakers")


def commit(tx: JobTransaction, claim: Claim, output: DiarizeOutput) -> Json:
    engines = {"diarize": asdict(output.diarize)}
    if output.embed is not None:
        engines["embed"] = asdict(output.embed)
    tx.job.models = tx.job.models | engines
    flow.count_diarized(tx)
    return {"key": output.key} | usage.processed(output.seconds, engines["diarize"])


def _batch(runtime: Runtime) -> int:
    return runtime.settings.diarize_batch


def _discard(runtime: Runtime, output: DiarizeOutput) -> None:
    runtime.storage.delete([output.key])


handler = Handler(StepKind.DIARIZE, work, commit, deadline=3600, batch=_batch, discard=_discard)
