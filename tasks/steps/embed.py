"""embed: clusters the local speakers of all chunks into the speakers of the recording."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sqlalchemy import delete, select

from db import voices
from db.access import usage
from db.models import Chunk, EventType, Job, Json, Step, StepKind, StepState, StoredSpeaker, StoredTurn
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.settings import get_settings
from db.speakers import of_job
from speech.audio import flac
from speech.engines import SAMPLE_RATE, Embedder
from speech.speakers.clustering import Vectors
from speech.speakers.diarization import LocalSpeakers
from speech.speakers.identification import Match, identify
from speech.speakers.reconstruction import Speakers, diarize_recording
from speech.text.timeline import Timeline
from speech.text.words import Turn
from tasks import flow
from tasks.errors import LeaseLost
from tasks.handler import Handler, Work
from tasks.runtime import Runtime
from tasks.steps import known_speakers
from tasks.steps.diarize import speaker_bounds
from tasks.steps.enrolment import enrol
from tasks.steps.known_speakers import KnownVoice
from tasks.steps.segments import relabel_segments

VOICEPRINT_SECONDS = 30.0
"""Speech for each voiceprint, if the diarization engine returns none."""

MAX_EVENT_SEGMENTS = 200
"""The segments of a long recording are announced in several events."""


@dataclass(frozen=True, slots=True)
class EmbedOutput:
    speakers: Speakers
    seconds: float
    """Audio of the chunks that were diarized."""
    embedder: Json | None
    """The engine that made the voiceprints here; none if the diarization brought them."""
    known: Sequence[KnownVoice] = ()
    unusable: str | None = None
    """Which sample of a known speaker cannot be read, and why."""


def work(claims: Sequence[Claim], work: Work) -> list[EmbedOutput]:
    (claim,) = claims
    runtime = work.runtime
    with runtime.sessions() as session:
        options = session.scalar(select(Job.options).where(Job.id == claim.job_id))
        results = session.scalars(
            select(Step.result)
            .where(Step.job_id == claim.job_id, Step.kind == StepKind.DIARIZE, Step.state == StepState.DONE)
            .order_by(Step.chunk)
        ).all()
    if options is None:
        raise LeaseLost(f"job {claim.job_id} was deleted")
    seconds = sum(map(usage.seconds_of, results))
    known: Sequence[KnownVoice] = ()
    unusable = None
    if samples := known_speakers.load(runtime, claim.job_id):
        embedder = runtime.engines.embedder(options.get("voice_engine")).engine
        try:
            known = known_speakers.voiceprints(runtime, samples, embedder)
        except known_speakers.UnusableSample as error:
            unusable = str(error)
    keys = [result["key"] for result in results if result]
    if flow.diarizes_whole_recording(options):
        stored = json.loads(runtime.storage.get(keys[0])) if keys else []
        serving = runtime.engines.embedder(options.get("voice_engine"))
        speakers = _with_voiceprints([Turn(**turn) for turn in stored], claim, runtime, serving.engine)
        return [EmbedOutput(speakers, seconds, asdict(serving.info), known, unusable)]
    chunks = (LocalSpeakers.from_bytes(runtime.storage.get(key)) for key in keys)
    least, most = speaker_bounds(options)
    speakers = diarize_recording(list(chunks), min_speakers=least, max_speakers=most)
    return [EmbedOutput(speakers, seconds, None, known, unusable)]


def _with_voiceprints(turns: Sequence[Turn], claim: Claim, runtime: Runtime, embedder: Embedder) -> Speakers:
    """The turns of an engine that returns no voiceprints, with voiceprints of each speaker's longest turns."""
    labels = tuple(dict.fromkeys(turn.speaker for turn in turns))
    with runtime.sessions() as session:
        rows = session.scalars(select(Chunk).where(Chunk.job_id == claim.job_id).order_by(Chunk.index)).all()
    chunks = [(Timeline.of(row.spans), row.key) for row in rows]
    vectors = np.zeros((len(labels), embedder.dimensions), np.float32)
    for place, name in enumerate(labels):
        pieces, seconds = [], 0.0
        for turn in sorted((t for t in turns if t.speaker == name), key=lambda t: t.start - t.end):
            for timeline, key in chunks:
                if parts := timeline.in_chunk(turn.start, turn.end):
                    audio = flac.decode(runtime.storage.get(key))
                    pieces += [audio[round(a * SAMPLE_RATE) : round(b * SAMPLE_RATE)] for a, b in parts]
                    seconds += sum(b - a for a, b in parts)
                    break
            if seconds >= VOICEPRINT_SECONDS:
                break
        if pieces:
            (vectors[place],) = embedder.embed([np.concatenate(pieces)])
    return Speakers(tuple(turns), labels, vectors)


def commit(tx: JobTransaction, claim: Claim, output: EmbedOutput) -> Mapping[str, Any]:
    processed = usage.processed(output.seconds, output.embedder or tx.job.models.get("embed"))
    if tx.job.voice_id is not None:
        return {**enrol(tx, output.speakers), **processed}
    if output.unusable is not None:
        flow.fail_job(tx, "known_speaker_unreadable", output.unusable)
        return processed
    return {**_assign(tx, output.speakers, output.known), **processed}


def _assign(tx: JobTransaction, speakers: Speakers, known: Sequence[KnownVoice]) -> Json:
    """Store the speakers, and label the segments that are final already."""
    # who was only typed in stays, with the name that people gave
    told_apart = StoredSpeaker.job_id == tx.job.id, StoredSpeaker.label.in_(speakers.labels)
    tx.session.execute(delete(StoredSpeaker).where(*told_apart))
    people = [
        StoredSpeaker(job_id=tx.job.id, label=name, vector=[float(x) for x in vector])
        for name, vector in zip(speakers.labels, speakers.vectors, strict=True)
    ]
    _match_enrolled(tx, people)
    _match_known(people, known)
    tx.session.add_all(people)
    tx.session.flush()
    tx.session.add_all(
        StoredTurn(job_id=tx.job.id, index=place, start=turn.start, end=turn.end, speaker=turn.speaker)
        for place, turn in enumerate(speakers.turns)
    )
    assigned = relabel_segments(tx, speakers.turns)
    everybody = of_job(tx.session, tx.job.id)
    for start in range(0, max(len(assigned), 1), MAX_EVENT_SEGMENTS):
        part = assigned[start : start + MAX_EVENT_SEGMENTS]
        data = {"speakers": everybody, "segments": [segment.to_json() for segment in part]}
        tx.emit(EventType.SPEAKERS_ASSIGNED, data)
    flow.finish_speakers(tx)
    return {"speakers": len(speakers.labels), "turns": len(speakers.turns)}


def _match_enrolled(tx: JobTransaction, people: Sequence[StoredSpeaker]) -> None:
    """Name the speakers whose voices the tenant has enrolled."""
    enrolled = voices.enrolled(tx.session, tx.job.tenant, voices.voiceprint_model(tx.job))
    for person, match in _matches(people, [np.array(voice.vector, np.float32) for voice in enrolled]):
        voice, person.score = enrolled[match.position], match.score
        person.voice_id, person.name = voice.id, voice.name


def _match_known(people: Sequence[StoredSpeaker], known: Sequence[KnownVoice]) -> None:
    """Name the speakers of whom a sample came with the recording; an enrolled voice stays theirs."""
    for person, match in _matches(people, [voice.vector for voice in known]):
        person.name, person.score = known[match.position].name, match.score


def _matches(people: Sequence[StoredSpeaker], known: Sequence[Vectors]) -> Iterator[tuple[StoredSpeaker, Match]]:
    vectors = [np.array(person.vector, np.float32) for person in people]
    matches = identify(vectors, known, get_settings().voice_threshold)
    return ((person, match) for person, match in zip(people, matches, strict=True) if match is not None)


handler = Handler(StepKind.EMBED, work, commit, deadline=1800)
