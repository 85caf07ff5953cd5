"""index: makes vectors of what a finished transcript says, so that it is found by what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from db.models import StepKind
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.search import meanings
from db.search.meanings import Unread, Vector
from speech.engines import EngineUnavailable
from tasks.errors import Broken
from tasks.handler import Handler, Work

NO_TABLE = "There are no vectors in the database: run db.prepare with LONGHAND_SEMANTIC_SEARCH=true."


@dataclass(frozen=True, slots=True)
class Read:
    """Segments and their vectors."""

    segments: Sequence[Unread]
    vectors: Sequence[Vector]


def work(claims: Sequence[Claim], work: Work) -> list[Read]:
    (claim,) = claims
    with work.runtime.sessions() as session:
        if not meanings.are_kept(session):
            raise Broken("semantic_search_unavailable", NO_TABLE)
        segments = meanings.unread(session, claim.job_id)
    try:
        vectors = work.runtime.engines.meaning.embed([segment.text for segment in segments])
    except EngineUnavailable as error:
        raise Broken("engine_unavailable", str(error)) from error
    return [Read(segments, vectors.tolist())]


def commit(tx: JobTransaction, claim: Claim, read: Read) -> Mapping[str, Any]:
    meanings.put(tx.session, tx.job.id, read.segments, read.vectors)
    return {"segments": len(read.segments)}


handler = Handler(StepKind.INDEX, work, commit, deadline=600)
