"""index: makes vectors of what a finished transcript says, so that it is found by what it means.

They are kept as they are made: what is left, after a crash or a correction, is what has none yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any

from db.models import StepKind
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.search import meanings
from speech.engines import EngineUnavailable
from tasks.errors import AtNoCost
from tasks.handler import Handler, Work

AT_ONCE = 200
"""Segments whose vectors are committed together: while the index takes them, nobody else can change the job."""

AWAIT_SECONDS = 3600.0
"""Until somebody has fetched the model."""


def work(claims: Sequence[Claim], work: Work) -> list[int]:
    (claim,) = claims
    with work.runtime.sessions() as session:
        if not meanings.are_kept(session):
            # since the step was made; once there is a table again it knows of no steps
            return [0]
        segments = meanings.unread(session, claim.job_id)
    try:
        model = work.runtime.engines.meaning
    except EngineUnavailable as error:
        raise AtNoCost(str(error), delay=AWAIT_SECONDS) from error
    segments = list(compress(segments, model.understands([segment.text for segment in segments])))
    for at in range(0, len(segments), AT_ONCE):
        portion = segments[at : at + AT_ONCE]
        vectors = model.embed([segment.text for segment in portion]).tolist()
        with work.transaction(claim) as tx:
            meanings.put(tx.session, claim.job_id, portion, vectors)
    return [len(segments)]


def commit(tx: JobTransaction, claim: Claim, read: int) -> Mapping[str, Any]:
    return {"segments": read}


handler = Handler(StepKind.INDEX, work, commit, deadline=600)
