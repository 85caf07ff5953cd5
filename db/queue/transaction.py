"""One short transaction on one locked job, or on those of a batch: its changes, its events, and the steps that
become ready.

Every change of a job goes through here, so event numbers have no gaps and joins see a consistent state.
The job's row is always locked before its steps. What a batch adds to tables is gathered, and written at the end.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, any_, bindparam, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.access import usage
from db.models import Event, EventType, Job, Json, Step, StepKind, StepState
from db.queue.claims import Claim
from db.search import passages
from db.session import Sessions
from db.webhooks import messages, outbox

SEGMENTS = (EventType.SEGMENT_DRAFT, EventType.SEGMENT_FINAL)


class JobGone(Exception):
    """The job was deleted."""


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event as subscribers get it, live or replayed."""

    job_id: uuid.UUID
    seq: int
    type: EventType
    at: datetime
    data: Json

    def payload(self) -> str:
        """The JSON of ``{job_id, seq, at, …}``, on one line."""
        head = {"job_id": str(self.job_id), "seq": self.seq, "at": self.at.isoformat()}
        return json.dumps(head | self.data, ensure_ascii=False, separators=(",", ":"))


@dataclass(slots=True)
class JobTransaction:
    """A locked job. ``events`` and ``ready`` are announced after the commit."""

    session: Session
    job: Job
    events: list[LoggedEvent] = field(default_factory=list)
    """Those that are in the log."""
    emitted: list[tuple[int, EventType, Json]] = field(default_factory=list)
    """Number, type and data of those that are not yet."""
    enqueued: list[tuple[StepKind, int | None]] = field(default_factory=list)
    """Kind and chunk of steps that are not written yet."""
    found: dict[int, Sequence[Json]] = field(default_factory=dict)
    """Chunks with the segments, in their public shape, that search is to find of them; not written yet."""
    ready: list[str] = field(default_factory=list)
    """Kinds of steps, or ``outbox.DELIVER``."""
    first_segments: bool = False
    """Whether nothing of what is spoken was known before."""

    @property
    def is_over(self) -> bool:
        """Whether no more work will be done on the job, unless it is retried."""
        return self.job.status.finished or self.job.deleted_at is not None

    def emit(self, type_: EventType, data: Json) -> None:
        """Append to the job's event log, under the next number, and to what webhooks are told."""
        self.job.event_seq += 1
        if type_ in SEGMENTS and not self.job.has_segments:
            self.job.has_segments = self.first_segments = True
        self.emitted.append((self.job.event_seq, type_, data))

    def enqueue(self, kind: StepKind, chunk: int | None = None) -> None:
        """Have a step made ready. An existing one stays as it is."""
        self.enqueued.append((kind, chunk))

    def has_step(self, kind: StepKind, chunk: int) -> bool:
        if (kind, chunk) in self.enqueued:
            return True
        # the job's row is written once, at the end
        with self.session.no_autoflush:
            of_chunk = Step.job_id == self.job.id, Step.kind == kind, Step.chunk == chunk
            return self.session.scalars(select(exists().where(*of_chunk))).one()

    def skip_open_steps(self, kinds: Iterable[StepKind] = tuple(StepKind)) -> None:
        """End all work on the job, or what is of these kinds. Late results of leased steps will be discarded."""
        _write_steps([self])
        is_open = Step.state.in_((StepState.READY, StepState.LEASED))
        self.session.execute(
            update(Step)
            .where(Step.job_id == self.job.id, Step.kind.in_(list(kinds)), is_open)
            .values(state=StepState.SKIPPED, finished_at=func.now())
        )


# NO KEY UPDATE: others can still insert rows that refer to the job
LOCK_JOB = select(Job).where(Job.id == bindparam("job_id")).with_for_update(key_share=True)

_NUMBERS = ARRAY(BigInteger)
_HELD = (
    select(Job, Step.fence)
    .join(Step, Step.job_id == Job.id)
    .where(
        Step.id == any_(bindparam("steps", type_=_NUMBERS)),
        # no two leases have the same fence
        Step.fence == any_(bindparam("fences", type_=_NUMBERS)),
        Step.state == StepState.LEASED,
    )
    .order_by(Step.id)
)
LOCK_HELD = _HELD.with_for_update(key_share=True, of=(Job, Step))
LOCK_FREE = _HELD.with_for_update(key_share=True, of=(Job, Step), skip_locked=True)
"""The steps that are held are locked too: what a lock was waited for may have ended their leases."""


@contextmanager
def job_transaction(sessions: Sessions, job_id: uuid.UUID) -> Iterator[JobTransaction]:
    """Lock the job's row, run the block, commit. Raises JobGone when there is no such job.

    Where the job ends in the block, whatever ends it, what its steps have processed is counted.
    """
    with sessions.begin() as session:
        job = session.scalar(LOCK_JOB, {"job_id": job_id})
        if job is None:
            raise JobGone(str(job_id))
        transaction = JobTransaction(session, job)
        with _changing([transaction]):
            yield transaction


@contextmanager
def held_transaction(
    sessions: Sessions, claims: Sequence[Claim]
) -> Iterator[tuple[Session, Mapping[Claim, JobTransaction]]]:
    """The same on the jobs of claims, for each that still holds its step: there may be none.

    Of several, those that others have locked are left out: who holds one job never waits for another.
    """
    with sessions.begin() as session:
        lock = LOCK_FREE if len(claims) > 1 else LOCK_HELD
        values = {"steps": [claim.id for claim in claims], "fences": [claim.fence for claim in claims]}
        jobs = {fence: job for job, fence in session.execute(lock, values)}
        transactions = {job.id: JobTransaction(session, job) for job in jobs.values()}
        with _changing(list(transactions.values())):
            yield session, {claim: transactions[claim.job_id] for claim in claims if claim.fence in jobs}


@contextmanager
def _changing(transactions: Sequence[JobTransaction]) -> Iterator[None]:
    """What belongs to every change of jobs, before the commit."""
    open_ones = [transaction for transaction in transactions if not transaction.is_over]
    yield
    for transaction in open_ones:
        # last: the step that ends the job is done by now
        if transaction.is_over:
            transaction.session.flush()
            usage.settle(transaction.session, transaction.job)
    write_gathered(transactions)


def write_gathered(transactions: Sequence[JobTransaction]) -> None:
    """Write the steps, passages and events of all, a statement for each table, at the end of the database's
    transaction."""
    _write_steps(transactions)
    if found := [(transaction.job, transaction.found) for transaction in transactions if transaction.found]:
        passages.put(transactions[0].session, found)
        for transaction in transactions:
            transaction.found.clear()
    _write_events(transactions)


def _write_steps(transactions: Sequence[JobTransaction]) -> None:
    rows = [
        {"job_id": transaction.job.id, "kind": kind, "chunk": chunk}
        for transaction in transactions
        for kind, chunk in transaction.enqueued
    ]
    if not rows:
        return
    session = transactions[0].session
    statement = insert(Step).values(rows).on_conflict_do_nothing().returning(Step.job_id, Step.kind)
    # the jobs' rows are written once, with the numbers of their last events
    with session.no_autoflush:
        new = session.execute(statement).all()
    for transaction in transactions:
        transaction.ready += [kind for job_id, kind in new if job_id == transaction.job.id]
        transaction.enqueued.clear()


def _write_events(transactions: Sequence[JobTransaction]) -> None:
    rows = [
        {"job_id": transaction.job.id, "seq": seq, "type": type_, "data": data}
        for transaction in transactions
        for seq, type_, data in transaction.emitted
    ]
    if not rows:
        return
    session = transactions[0].session
    # flush first: the locked row takes the numbers before the log does
    session.flush()
    written = session.execute(insert(Event).returning(Event.job_id, Event.seq, Event.at), rows)
    times = {(job_id, seq): at for job_id, seq, at in written}
    for transaction in transactions:
        job, told = transaction.job, {event.type for event in transaction.events}
        for seq, type_, data in transaction.emitted:
            at = times[job.id, seq]
            transaction.events.append(LoggedEvent(job.id, seq, type_, at, data))
            # of an event in several parts, such as the speakers of a long recording, webhooks are told once
            if type_ in messages.TOLD and type_ not in told:
                told.add(type_)
                if outbox.add(session, job, type_, seq, at, data):
                    transaction.ready.append(outbox.DELIVER)
        transaction.emitted.clear()
