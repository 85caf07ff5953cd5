"""Assigns people to the splits: nobody is in both train and val."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sqlalchemy import update

from db.models import Export, Split
from db.queue.claims import Claim
from db.training import dataset
from speech.training.dataset.filters import Reason
from speech.training.dataset.people import link_people
from speech.training.dataset.split import PersonSpeech, select_held_out
from tasks.handler import Work


def assign_splits(work: Work, claim: Claim, export: Export) -> None:
    """Link speakers that may be the same person, and hold out some people for validation."""
    runtime = work.runtime
    with runtime.sessions() as session:
        speech = dataset.speech_by_speaker(session, [export.job_id])
    persons = identify_persons(speech, runtime.settings.voice_threshold)
    by_person = _speech_by_person(speech, persons)
    held_out = select_held_out(list(by_person.values()))
    with work.transaction(claim) as tx:
        for row, person in zip(speech, persons, strict=True):
            is_held_out = person in held_out
            # with corrected speech to validate on, uncorrected speech of the same person is not used
            only_corrected = is_held_out and by_person[person].human_seconds
            dataset.assign_split(
                tx.session,
                export.job_id,
                (row.job_id, row.speaker),
                person,
                Split.VAL if is_held_out else Split.TRAIN,
                uncorrected_reason=Reason.HELD_OUT_SPEAKER if only_corrected else None,
            )
        tx.session.execute(update(Export).where(Export.job_id == export.job_id).values(selected=True))


def identify_persons(speech: Sequence[Any], threshold: float) -> list[int]:
    """A person number for each row of :func:`db.training.dataset.speech_by_speaker`."""
    if not speech:
        return []
    width = max((len(row.vector or ()) for row in speech), default=0)
    vectors = np.zeros((len(speech), max(width, 1)), np.float32)
    for index, row in enumerate(speech):
        # voiceprints of another model cannot be compared: they link to nobody
        if row.vector and len(row.vector) == width:
            vectors[index] = row.vector
    return link_people(vectors, [row.voice_id for row in speech], threshold)


def _speech_by_person(speech: Sequence[Any], persons: Sequence[int]) -> dict[int, PersonSpeech]:
    totals: dict[int, PersonSpeech] = {}
    for row, person in zip(speech, persons, strict=True):
        total = totals.get(person) or PersonSpeech(person, 0.0, 0.0, f"{row.job_id}/{row.speaker}")
        totals[person] = replace(
            total, seconds=total.seconds + row.seconds, human_seconds=total.human_seconds + row.human
        )
    return totals
