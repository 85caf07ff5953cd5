"""Changes of segments by people: text, speaker, and where they begin and end. The machine's version is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.orm import Session

from api.dependencies import Services, needs
from api.editing import EditorDep
from api.problems import Problem
from api.text import MAX_TEXT, Name, Text
from api.transcript_views import SegmentView
from db import transcripts
from db.access import redaction
from db.models import EventType, Job, Scope, SegmentSource, StoredSegment
from db.queue.transaction import JobTransaction
from db.search.refresh import refresh
from speech.text.editing import divide, divide_at_time, join
from speech.text.redaction.kinds import PersonalData
from speech.text.redaction.redact import redact_text
from speech.text.retiming import retime
from speech.text.words import SEGMENTS_PER_CHUNK, Segment, Source, segment_index

router = APIRouter(prefix="/v1/jobs/{job_id}/segments", dependencies=[needs(Scope.JOBS_WRITE)], tags=["segments"])

MAX_INDEX = 2**31 - 1
Index = Annotated[int, Path(ge=0, le=MAX_INDEX)]
Version = Annotated[
    int | None,
    Field(ge=0, lt=2**63, description="Of the segment that is changed; with another one the answer is 409."),
]


class Correction(BaseModel):
    """The changes; at least one of text and speaker."""

    model_config = ConfigDict(extra="forbid")

    text: Text | None = Field(None, description="The same text confirms it.")
    speaker: Name | None = Field(None, description="A label of this job, or a new name.")
    version: Version = None

    @model_validator(mode="after")
    def _require_any(self) -> Correction:
        if self.text is None and self.speaker is None:
            raise ValueError("give `text`, `speaker`, or both")
        return self


class Division(BaseModel):
    """Where to divide a segment."""

    model_config = ConfigDict(extra="forbid")

    at: int = Field(ge=1, lt=2**31, description="How many words the first part has.")
    version: Version = None


class Joining(BaseModel):
    """Which segment to add."""

    model_config = ConfigDict(extra="forbid")

    next: int = Field(ge=0, le=MAX_INDEX, description="Index of the segment that follows in time.")
    version: Version = None
    next_version: Version = None


class Reversion(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Version = None


class SegmentsView(BaseModel):
    segments: list[SegmentView]


@router.patch("/{index}", response_model=SegmentView, response_model_exclude_unset=True)
def correct_segment(job_id: str, index: Index, correction: Correction, editor: EditorDep) -> dict[str, Any]:
    """Correct a final segment, or confirm it. ``segment.corrected`` is announced.

    What is left out of the job's transcript is left out of a correction too; the answer has the text as stored.
    """
    with editor.change(job_id) as tx:
        stored = _find(tx, index, correction.version)
        text = _redacted(editor.services, tx.session, tx.job, correction.text)
        corrected = _corrected(Segment.from_json(stored.to_json()), text, correction.speaker)
        return _correct(tx, stored, corrected)


@router.post("/{index}/revert", response_model=SegmentView, response_model_exclude_unset=True)
def revert_segment(job_id: str, index: Index, reversion: Reversion, editor: EditorDep) -> dict[str, Any]:
    """Give a segment the text that the models wrote. Its speaker stays. ``segment.corrected`` is announced."""
    with editor.change(job_id) as tx:
        stored = _find(tx, index, reversion.version)
        if stored.machine is None:
            return stored.to_json()
        segment, machine = Segment.from_json(stored.to_json()), Segment.from_json(stored.machine)
        reverted = replace(
            segment,
            text=machine.text,
            words=machine.words,
            confidence=machine.confidence,
            source=machine.source,
            language=machine.language,
        )
        return _correct(tx, stored, reverted)


@router.post("/{index}/split", response_model=SegmentsView, response_model_exclude_unset=True)
def split_segment(job_id: str, index: Index, division: Division, editor: EditorDep) -> dict[str, Any]:
    """Divide a final segment in two. ``segments.replaced`` is announced."""
    with editor.change(job_id) as tx:
        stored = _find(tx, index, division.version)
        segment = Segment.from_json(stored.to_json())
        if division.at >= len(segment.words):
            detail = f"Segment {index} has {len(segment.words)} words; `at` leaves at least one behind it."
            raise Problem(422, "invalid_request", "Invalid request", detail)
        first, second = divide(segment, division.at)
        new = _free_index(tx, stored.chunk)
        machines = divide_at_time(_machine(stored), second.start)
        added = StoredSegment(job_id=tx.job.id, index=new, chunk=stored.chunk)
        _write(tx, stored, first, machines[0])
        _write(tx, added, replace(second, index=new), replace(machines[1], index=new))
        tx.session.add(added)
        refresh(tx.session, tx.job, [stored.chunk])
        return _announce_replaced(tx, [], [stored, added])


@router.post("/{index}/merge", response_model=SegmentsView, response_model_exclude_unset=True)
def merge_segments(job_id: str, index: Index, joining: Joining, editor: EditorDep) -> dict[str, Any]:
    """Join a final segment with the one that follows it. ``segments.replaced`` is announced."""
    with editor.change(job_id) as tx:
        stored = _find(tx, index, joining.version)
        following = _find(tx, joining.next, joining.next_version)
        if transcripts.next_index(tx.session, stored) != joining.next:
            detail = f"Segment {joining.next} does not follow segment {index} in time."
            raise Problem(409, "segments_apart", "Segments apart", detail)
        joined = join(Segment.from_json(stored.to_json()), Segment.from_json(following.to_json()))
        if len(joined.text) > MAX_TEXT:
            detail = f"The two have {len(joined.text)} characters; more than {MAX_TEXT} nobody could correct."
            raise Problem(422, "segment_too_long", "Segment too long", detail)
        machine = join(_machine(stored), _machine(following))
        tx.session.delete(following)
        _write(tx, stored, joined, machine)
        refresh(tx.session, tx.job, [stored.chunk, following.chunk])
        return _announce_replaced(tx, [joining.next], [stored])


def _find(tx: JobTransaction, index: int, version: int | None) -> StoredSegment:
    """The final segment. Raises Problem, also if its version is another."""
    stored = tx.session.get(StoredSegment, (tx.job.id, index))
    if stored is None:
        detail = f"Job {tx.job.id} has no final segment {index}; drafts cannot be changed."
        raise Problem(404, "segment_not_found", "Segment not found", detail)
    if version is not None and version != stored.version:
        detail = f"Segment {index} was changed meanwhile; `segment` has it as it is now. Make the change to that."
        raise Problem(409, "segment_changed", "Segment changed", detail, segment=stored.to_json())
    return stored


def _redacted(services: Services, session: Session, job: Job, text: str | None) -> str | None:
    kinds = redaction.of_job(session, job.tenant, job.options, services.settings).kinds
    if text is None or not kinds:
        return text
    return redact_text(text, frozenset(map(PersonalData, kinds)), services.settings.redact_regions)


def _corrected(segment: Segment, text: str | None, speaker: str | None) -> Segment:
    """Who speaks says nothing about the words: they stay the models' until somebody corrects or confirms them."""
    segment = replace(segment, speaker=speaker or segment.speaker)
    if text is None:
        return segment
    words = (
        tuple(replace(word, confidence=1.0) for word in segment.words)
        if text == segment.text
        else retime(segment.words, text, segment.start, segment.end)
    )
    return replace(segment, text=text, words=words, source=Source.HUMAN, confidence=1.0)


def _machine(stored: StoredSegment) -> Segment:
    """What the models wrote in its span."""
    return Segment.from_json(stored.machine or stored.to_json())


def _free_index(tx: JobTransaction, chunk: int) -> int:
    """One behind the last of the chunk. Raises Problem where it has no more."""
    position = transcripts.last_index(tx.session, tx.job.id, chunk) % SEGMENTS_PER_CHUNK + 1
    if position == SEGMENTS_PER_CHUNK:
        detail = f"30 seconds have {SEGMENTS_PER_CHUNK} segments at most; join some of them first."
        raise Problem(409, "too_many_segments", "Too many segments", detail)
    return segment_index(chunk, position)


def _write(tx: JobTransaction, stored: StoredSegment, segment: Segment, machine: Segment) -> None:
    data = segment.to_json()
    for name in ("start", "end", "text", "speaker", "language", "confidence", "words"):
        setattr(stored, name, data[name])
    stored.source = SegmentSource(segment.source)
    stored.machine = machine.to_json()
    # of the event that is about to be emitted
    stored.version = tx.job.event_seq + 1


def _correct(tx: JobTransaction, stored: StoredSegment, corrected: Segment) -> dict[str, Any]:
    _write(tx, stored, corrected, _machine(stored))
    data = stored.to_json()
    refresh(tx.session, tx.job, [stored.chunk])
    tx.emit(EventType.SEGMENT_CORRECTED, data)
    return data


def _announce_replaced(
    tx: JobTransaction, removed: Sequence[int], changed: Sequence[StoredSegment]
) -> dict[str, Any]:
    data = {"segments": [stored.to_json() for stored in changed]}
    tx.emit(EventType.SEGMENTS_REPLACED, data | {"removed": list(removed)})
    return data
