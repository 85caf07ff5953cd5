"""Who is in train and who in val: nobody is in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sqlalchemy import update

from db.models import Export, Split
from db.queue.leases import Claim
from db.training import dataset
from speech.training.dataset.filters import Reason
from speech.training.dataset.people import people
from speech.training.dataset.split import Share, held_out
from tasks.step import Work


def divide(work: Work, claim: Claim, export: Export) -> None:
    """Say who may be the same person, and who is held out: nobody is in both train and val."""
    runtime = work.runtime
    with runtime.sessions() as session:
        speech = dataset.speech_of(session, [export.job_id])
    persons = persons_of(speech, runtime.settings.voice_threshold)
    shares = _shares(speech, persons)
    held = held_out(list(shares.values()))
    with work.transaction(claim) as tx:
        for row, person in zip(speech, persons, strict=True):
            out = person in held
            # of those whose speech was corrected, only that is trusted to be compared with
            machine = Reason.HELD_OUT_SPEAKER if out and shares[person].human_seconds else None
            speaker = (row.job_id, row.speaker)
            split = Split.VAL if out else Split.TRAIN
            dataset.place(tx.session, export.job_id, speaker, person, split, machine=machine)
        tx.session.execute(update(Export).where(Export.job_id == export.job_id).values(selected=True))


def persons_of(speech: Sequence[Any], threshold: float) -> list[int]:
    if not speech:
        return []
    width = max((len(row.vector or ()) for row in speech), default=0)
    vectors = np.zeros((len(speech), max(width, 1)), np.float32)
    for place, row in enumerate(speech):
        # voiceprints of another model cannot be compared: they stand for nobody else
        if row.vector and len(row.vector) == width:
            vectors[place] = row.vector
    return people(vectors, [row.voice_id for row in speech], threshold)


def _shares(speech: Sequence[Any], persons: Sequence[int]) -> dict[int, Share]:
    shares: dict[int, Share] = {}
    for row, person in zip(speech, persons, strict=True):
        share = shares.get(person) or Share(person, 0.0, 0.0, f"{row.job_id}/{row.speaker}")
        shares[person] = replace(
            share, seconds=share.seconds + row.seconds, human_seconds=share.human_seconds + row.human
        )
    return shares
