"""index: makes vectors of what a finished transcript says, so that it is found by what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from db.models import StepKind
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.search import meanings
from speech.engines import EngineUnavailable
from tasks.errors import Broken
from tasks.handler import Handler, Work

AT_ONCE = 200
"""Segments whose vectors are committed together: while the index takes them, nobody else can change the job."""

NO_TABLE = "There are no vectors in the database: run db.prepare with LONGHAND_SEMANTIC_SEARCH=true."


def work(claims: Sequence[Claim], work: Work) -> list[int]:
    """Returns how many segments were read. What an earlier attempt has read stays."""
    (claim,) = claims
    with work.runtime.sessions() as session:
        if not meanings.are_kept(session):
            raise Broken("semantic_search_unavailable", NO_TABLE)
        segments = meanings.unread(session, claim.job_id)
    try:
        model = work.runtime.engines.meaning
    except EngineUnavailable as error:
        raise Broken("engine_unavailable", str(error)) from error
    for first in range(0, len(segments), AT_ONCE):
        some = segments[first : first + AT_ONCE]
        vectors = model.embed([segment.text for segment in some]).tolist()
        with work.transaction(claim) as tx:
            meanings.put(tx.session, claim.job_id, some, vectors)
    return [len(segments)]


def commit(tx: JobTransaction, claim: Claim, read: int) -> Mapping[str, Any]:
    return {"segments": read}


handler = Handler(StepKind.INDEX, work, commit, deadline=3600)
