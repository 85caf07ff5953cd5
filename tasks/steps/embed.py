"""embed: local speakers of all chunks become the speakers of the recording, each with one voiceprint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import delete, select

from db import transcripts, voices
from db.models import (
    Chunk,
    EventType,
    Job,
    SegmentSource,
    Step,
    StepKind,
    StepState,
    StoredSegment,
    StoredSpeaker,
    StoredTurn,
    VoiceStatus,
)
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.settings import get_settings
from speech.audio import flac
from speech.engines import SAMPLE_RATE
from speech.speakers.clustering import Speakers, diarize, identify
from speech.speakers.diarization import LocalSpeakers
from speech.speakers.labels import label_segments
from speech.text.words import Segment, Source, Turn
from tasks import flow
from tasks.errors import LeaseLost
from tasks.handler import Handler, Work
from tasks.runtime import Runtime
from tasks.steps.diarize import speaker_bounds

SECONDS = 30.0
"""Speech that makes one voiceprint where the diarization engine gives none."""

MAX_EVENT_SEGMENTS = 200
"""Most segments in one event: a long recording is announced in several."""


def work(claims: Sequence[Claim], work: Work) -> list[Speakers]:
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
    keys = [result["key"] for result in results if result]
    if flow.diarizes_whole_recording(options):
        found = json.loads(runtime.storage.get(keys[0])) if keys else []
        return [_with_voiceprints([Turn(**turn) for turn in found], claim, runtime, options)]
    chunks = (LocalSpeakers.from_bytes(runtime.storage.get(key)) for key in keys)
    least, most = speaker_bounds(options)
    return [diarize(list(chunks), min_speakers=least, max_speakers=most)]


def _with_voiceprints(
    turns: Sequence[Turn], claim: Claim, runtime: Runtime, options: Mapping[str, Any]
) -> Speakers:
    """The turns of an engine that keeps its voiceprints to itself, with ours of each speaker's longest turns."""
    labels = tuple(dict.fromkeys(turn.speaker for turn in turns))
    embedder = runtime.engines.embedder(options.get("voice_engine")).engine
    with runtime.sessions() as session:
        chunks = session.execute(
            select(Chunk.start, Chunk.end, Chunk.key).where(Chunk.job_id == claim.job_id).order_by(Chunk.index)
        ).all()
    vectors = np.zeros((len(labels), embedder.dimensions), np.float32)
    for place, name in enumerate(labels):
        pieces, seconds = [], 0.0
        for turn in sorted((t for t in turns if t.speaker == name), key=lambda t: t.start - t.end):
            inside = [chunk for chunk in chunks if chunk.start < turn.end and turn.start < chunk.end]
            for chunk in inside[:1]:
                audio = flac.decode(runtime.storage.get(chunk.key))
                first, last = (round((at - chunk.start) * SAMPLE_RATE) for at in (turn.start, turn.end))
                pieces.append(audio[max(0, first) : last])
                seconds += len(pieces[-1]) / SAMPLE_RATE
            if seconds >= SECONDS:
                break
        if pieces:
            (vectors[place],) = embedder.embed([np.concatenate(pieces)])
    return Speakers(tuple(turns), labels, vectors)


def commit(tx: JobTransaction, claim: Claim, found: Speakers) -> Mapping[str, Any]:
    if tx.job.voice_id is not None:
        return enrol(tx, found)
    tx.session.execute(delete(StoredSpeaker).where(StoredSpeaker.job_id == tx.job.id))
    people = [
        StoredSpeaker(job_id=tx.job.id, label=name, vector=[float(x) for x in vector])
        for name, vector in zip(found.labels, found.vectors, strict=True)
    ]
    _name(tx, people)
    tx.session.add_all(people)
    tx.session.flush()
    tx.session.add_all(
        StoredTurn(job_id=tx.job.id, index=place, start=turn.start, end=turn.end, speaker=turn.speaker)
        for place, turn in enumerate(found.turns)
    )
    assigned = relabel(tx, found.turns)
    speakers = [person.to_json() for person in people]
    for start in range(0, max(len(assigned), 1), MAX_EVENT_SEGMENTS):
        part = assigned[start : start + MAX_EVENT_SEGMENTS]
        data = {"speakers": speakers, "segments": [segment.to_json() for segment in part]}
        tx.emit(EventType.SPEAKERS_ASSIGNED, data)
    flow.finish_speakers(tx)
    return {"speakers": len(found.labels), "turns": len(found.turns)}


def _name(tx: JobTransaction, people: Sequence[StoredSpeaker]) -> None:
    """Call those by name whom the tenant has enrolled."""
    known = voices.enrolled(tx.session, tx.job.tenant, _model(tx.job))
    heard, enrolled = ([np.array(one.vector, np.float32) for one in ones] for ones in (people, known))
    for person, match in zip(people, identify(heard, enrolled, get_settings().voice_threshold), strict=True):
        if match is not None:
            voice, person.score = known[match.place], match.score
            person.voice_id, person.name = voice.id, voice.name


def _model(job: Job) -> str:
    """What made the voiceprints; only those of one model can be compared."""
    return str(job.models.get("embed", {}).get("model", ""))


ENROLMENT_SECONDS = 5.0
"""Least speech of a voice."""

MAX_OTHER_SPEAKER_SECONDS = 1.5
"""Speech of somebody else that spoils an enrolment."""


def enrol(tx: JobTransaction, found: Speakers) -> Mapping[str, Any]:
    """The recording becomes a voice, if it holds one person who speaks for long enough."""
    seconds = {name: sum(t.end - t.start for t in found.turns if t.speaker == name) for name in found.labels}
    name, longest = max(seconds.items(), key=lambda item: item[1], default=("", 0.0))
    others = sum(seconds.values()) - longest
    if not seconds:
        flow.fail_job(tx, "voice_no_speech", "Nobody is heard to speak in this recording.")
    elif others > MAX_OTHER_SPEAKER_SECONDS:
        detail = f"{len(seconds)} people are heard, one of them for {others:.1f} s; send a recording of one alone."
        flow.fail_job(tx, "voice_not_alone", detail)
    elif longest < ENROLMENT_SECONDS:
        detail = f"Only {longest:.1f} s of speech are heard; a voice takes {ENROLMENT_SECONDS:g} s or more."
        flow.fail_job(tx, "voice_too_short", detail)
    else:
        vector = [float(x) for x in found.vectors[found.labels.index(name)]]
        voices.finish_enrolment(tx, status=VoiceStatus.READY, vector=vector, seconds=longest, model=_model(tx.job))
    return {"speakers": len(seconds), "seconds": longest}


def relabel(tx: JobTransaction, turns: Sequence[Turn]) -> list[Segment]:
    """Give the segments that are final already their speakers; those of chunks to come get them as they come."""
    segments = [Segment.from_json(data) for data in transcripts.final_segments(tx.session, tx.job.id)]
    labelled: list[Segment] = []
    for chunk in dict.fromkeys(segment.chunk for segment in segments):
        mine = [segment for segment in segments if segment.chunk == chunk]
        if any(segment.source is Source.HUMAN for segment in mine):
            continue  # somebody is at work there: their segments stay as they know them
        labelled += label_segments(mine, turns)
    chunks = {segment.chunk for segment in labelled}
    tx.session.execute(
        delete(StoredSegment).where(StoredSegment.job_id == tx.job.id, StoredSegment.chunk.in_(chunks))
    )
    store(tx, labelled)
    return labelled


def store(tx: JobTransaction, segments: Sequence[Segment]) -> None:
    """Write final segments."""
    tx.session.add_all(
        StoredSegment(**{**segment.to_json(), "job_id": tx.job.id, "source": SegmentSource(segment.source)})
        for segment in segments
    )
    tx.session.flush()


handler = Handler(StepKind.EMBED, work, commit, deadline=1800)
