"""Live sessions: what has come of them, and who may add to it.

A session is a job from its beginning. Its ``fetch`` step, which puts the pieces together, is there from the
beginning too, and due some time after the session was last heard of: whoever adds to it puts that off. So a
session whose gateway died ends by itself, like any step whose time has come, with all that was stored.

A session outlives the failure of its job: what is spoken is kept, and transcribed once the job is retried. The
step is skipped then, like all that were open, and its time goes on to say until when the session lasts.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db import jobs
from db.models import Chunk, Job, JobStatus, Json, LiveFinal, LivePiece, LiveSession, Step, StepKind, StepState
from db.objects import pieces as pieces_of
from db.objects.storage import Storage, job_prefix
from db.queue.transaction import JobTransaction
from db.session import Sessions

SCHEME = "live:"
"""What the ``source_url`` of such a job begins with; the rest is the session's name."""

_WAITING = and_(Step.kind == StepKind.FETCH, Step.state == StepState.READY)
_WAITING_FOR_RETRY = and_(
    Step.kind == StepKind.FETCH,
    # ready again, where somebody retries the job at this moment
    Step.state.in_((StepState.SKIPPED, StepState.READY)),
    Step.run_after > func.clock_timestamp(),
    select(Job.id)
    .where(Job.id == Step.job_id, Job.status == JobStatus.FAILED, Job.deleted_at.is_(None))
    .correlate(Step)
    .exists(),
)
"""The step of a session that can be gone on with, and that of one whose job has failed."""


class SessionOver(Exception):
    """The session has ended, or the job was cancelled or deleted."""


class WriterReplaced(Exception):
    """Another connection has taken the session up."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a session has come."""

    job_id: uuid.UUID
    writer: uuid.UUID
    received: int
    """Samples that are stored."""
    heard: int
    """Samples whose utterances are final."""
    cut: int
    """Samples that chunks cover."""
    chunks: int
    finals: int
    utterances: int
    """Behind the number of the last that is final."""


def is_live(job: Job) -> bool:
    return job.source_url is not None and job.source_url.startswith(SCHEME)


def pieces_prefix(job_id: uuid.UUID) -> str:
    return f"{job_prefix(job_id)}live/"


def is_piece(key: str) -> bool:
    """Whether the object was written for a live session."""
    return key.split("/")[2:3] == ["live"]


def create(session: Session, job: Job, flow_id: str, patience: timedelta) -> tuple[JobTransaction, Position]:
    """Insert a job with its session. Raises IntegrityError if the tenant has one of this name to go on with."""
    job.source_url = f"{SCHEME}{flow_id}"
    transaction = jobs.create(session, job, StepKind.FETCH)
    transaction.ready.clear()  # nobody need look for it now
    _put_off(session, job.id, patience)
    _free_name(session, job.tenant, flow_id)
    writer = uuid.uuid4()
    session.add(LiveSession(job_id=job.id, tenant=job.tenant, flow_id=flow_id, writer=writer))
    session.flush()
    return transaction, Position(job.id, writer, 0, 0, 0, 0, 0, 0)


def find(session: Session, tenant: str, flow_id: str) -> LiveSession | None:
    return session.scalar(select(LiveSession).where(LiveSession.tenant == tenant, LiveSession.flow_id == flow_id))


def take_up(session: Session, job_id: uuid.UUID, patience: timedelta) -> Position:
    """Make the caller the session's writer; whoever was it before adds no more. Raises SessionOver."""
    found = session.get(LiveSession, job_id, with_for_update=True)
    if found is None:
        raise SessionOver(str(job_id))
    _put_off(session, job_id, patience)
    found.writer = uuid.uuid4()
    last = func.max(LiveFinal.content["utterance"].as_integer())
    heard, finals, utterances = session.execute(
        select(func.coalesce(func.max(LiveFinal.end), 0), func.count(), func.coalesce(last + 1, 0)).where(
            LiveFinal.job_id == job_id
        )
    ).one()
    end, chunks = session.execute(
        select(func.coalesce(func.max(Chunk.end), 0.0), func.count()).where(Chunk.job_id == job_id)
    ).one()
    return Position(job_id, found.writer, found.received, heard, round(end * 16_000), chunks, finals, utterances)


def append(session: Session, writer: uuid.UUID, piece: LivePiece, patience: timedelta) -> None:
    """Count a piece, whose object is written. Raises SessionOver, WriterReplaced."""
    grown = (
        update(LiveSession)
        .where(
            LiveSession.job_id == piece.job_id,
            LiveSession.writer == writer,
            LiveSession.received == piece.start,
        )
        .values(received=piece.start + piece.samples)
        .returning(LiveSession.job_id)
        .execution_options(synchronize_session=False)
    )
    if session.scalar(grown) is None:
        _lock(session, piece.job_id, writer)
        return  # an attempt whose answer was lost has done it
    _put_off(session, piece.job_id, patience)
    session.add(piece)


def keep(session: Session, job_id: uuid.UUID, writer: uuid.UUID, patience: timedelta) -> None:
    """Put the end of a session off. Raises SessionOver, WriterReplaced."""
    _lock(session, job_id, writer)
    _put_off(session, job_id, patience)


def add_final(
    session: Session, job_id: uuid.UUID, writer: uuid.UUID, *, seq: int, end: int, content: Json
) -> None:
    """Keep what is about to be sent. Raises SessionOver, WriterReplaced."""
    _lock(session, job_id, writer)
    values = {"job_id": job_id, "seq": seq, "end": end, "content": content}
    session.execute(insert(LiveFinal).values(values).on_conflict_do_nothing())


def end(transaction: JobTransaction, writer: uuid.UUID) -> None:
    """No more will come: the recording can be put together. Raises SessionOver, WriterReplaced."""
    _lock(transaction.session, transaction.job.id, writer)
    _put_off(transaction.session, transaction.job.id, timedelta(0))
    transaction.ready.append(StepKind.FETCH)


def finals_after(session: Session, job_id: uuid.UUID, after: int) -> Sequence[Json]:
    return session.scalars(
        select(LiveFinal.content).where(LiveFinal.job_id == job_id, LiveFinal.seq > after).order_by(LiveFinal.seq)
    ).all()


def pieces(session: Session, job_id: uuid.UUID, since: int = 0) -> Sequence[LivePiece]:
    """In the order of their audio, from the one on that holds the sample ``since``."""
    return session.scalars(
        select(LivePiece)
        .where(LivePiece.job_id == job_id, LivePiece.start + LivePiece.samples > since)
        .order_by(LivePiece.start)
    ).all()


def counted(session: Session, keys: Sequence[str]) -> set[str]:
    """Those of the keys that hold pieces."""
    return set(session.scalars(select(LivePiece.key).where(LivePiece.key.in_(keys))))


def put_together(session: Session) -> Sequence[uuid.UUID]:
    """Sessions whose recording is stored as one object, and whose pieces are still there."""
    done = (Step.kind == StepKind.FETCH, Step.state == StepState.DONE)
    return session.scalars(
        select(LiveSession.job_id).join(Step, Step.job_id == LiveSession.job_id).where(*done)
    ).all()


def tidy(sessions: Sessions, storage: Storage, job_id: uuid.UUID) -> None:
    """Delete the pieces of such a session, then its row. Does not raise."""
    keys = select(LivePiece.key).where(LivePiece.job_id == job_id)
    pieces_of.tidy(sessions, storage, keys, delete(LiveSession).where(LiveSession.job_id == job_id))


def _free_name(session: Session, tenant: str, flow_id: str) -> None:
    """Take it from a session that nobody can go on with; what came of that stays, as its job may be retried."""
    waiting = select(Step.id).where(Step.job_id == LiveSession.job_id, or_(_WAITING, _WAITING_FOR_RETRY))
    session.execute(
        update(LiveSession)
        .where(LiveSession.tenant == tenant, LiveSession.flow_id == flow_id, ~waiting.exists())
        .values(flow_id=None)
        .execution_options(synchronize_session=False)
    )


def _lock(session: Session, job_id: uuid.UUID, writer: uuid.UUID) -> None:
    """Lock the session until the transaction ends. Raises SessionOver, WriterReplaced."""
    found = session.scalar(select(LiveSession.writer).where(LiveSession.job_id == job_id).with_for_update())
    if found is None:
        raise SessionOver(str(job_id))
    if found != writer:
        raise WriterReplaced(str(job_id))


def _put_off(session: Session, job_id: uuid.UUID, patience: timedelta) -> None:
    """Raises SessionOver once the recording is being put together, or is not to be."""
    # one after the other: the second sees how a job is whose failure the first has waited for
    for waiting in (_WAITING, _WAITING_FOR_RETRY):
        found = (
            update(Step)
            .where(Step.job_id == job_id, waiting)
            .values(run_after=func.clock_timestamp() + patience)
            .returning(Step.id)
            .execution_options(synchronize_session=False)
        )
        if session.scalar(found) is not None:
            return
    raise SessionOver(str(job_id))
