"""One short transaction on one locked job: its changes, its events, and the steps that become ready.

Every change of a job goes through here, so event numbers have no gaps and joins see a consistent state.
The job's row is always locked before its steps.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.access import usage
from db.models import Event, EventType, Job, Json, Step, StepKind, StepState
from db.session import Sessions
from db.webhooks import messages, outbox


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
    ready: list[str] = field(default_factory=list)
    """Kinds of steps, or ``outbox.DELIVER``."""

    @property
    def is_over(self) -> bool:
        """Whether no more work will be done on the job, unless it is retried."""
        return self.job.status.finished or self.job.deleted_at is not None

    def emit(self, type_: EventType, data: Json) -> None:
        """Append to the job's event log, under the next number, and to what webhooks are told."""
        self.job.event_seq += 1
        self.emitted.append((self.job.event_seq, type_, data))

    def write_events(self) -> None:
        """Write what was emitted to the log, all at once, at the end of the transaction."""
        if not self.emitted:
            return
        # flush first: the locked row takes the numbers before the log does
        self.session.flush()
        rows = [
            {"job_id": self.job.id, "seq": seq, "type": type_, "data": data} for seq, type_, data in self.emitted
        ]
        times = {seq: at for seq, at in self.session.execute(insert(Event).returning(Event.seq, Event.at), rows)}
        told = {event.type for event in self.events}
        for seq, type_, data in self.emitted:
            self.events.append(LoggedEvent(self.job.id, seq, type_, times[seq], data))
            # of an event in several parts, such as the speakers of a long recording, webhooks are told once
            if type_ in messages.TOLD and type_ not in told:
                told.add(type_)
                if outbox.add(self.session, self.job, type_, seq, times[seq], data):
                    self.ready.append(outbox.DELIVER)
        self.emitted.clear()

    def enqueue(self, kind: StepKind, chunk: int | None = None) -> bool:
        """Insert a ready step. An existing one stays as it is. Returns whether there was none."""
        return bool(self.enqueue_all([kind], chunk))

    def enqueue_all(self, kinds: Sequence[StepKind], chunk: int | None = None) -> Sequence[StepKind]:
        """The same with several steps of a chunk. Returns the kinds of which there was none."""
        values = [{"job_id": self.job.id, "kind": kind, "chunk": chunk} for kind in kinds]
        statement = insert(Step).values(values).on_conflict_do_nothing().returning(Step.kind)
        # the job's row is written once, at the end
        with self.session.no_autoflush:
            new = self.session.scalars(statement).all()
        self.ready += new
        return new

    def skip_open_steps(self, kinds: Iterable[StepKind] = tuple(StepKind)) -> None:
        """End all work on the job, or what is of these kinds. Late results of leased steps will be discarded."""
        is_open = Step.state.in_((StepState.READY, StepState.LEASED))
        self.session.execute(
            update(Step)
            .where(Step.job_id == self.job.id, Step.kind.in_(list(kinds)), is_open)
            .values(state=StepState.SKIPPED, finished_at=func.now())
        )


@contextmanager
def job_transaction(sessions: Sessions, job_id: uuid.UUID) -> Iterator[JobTransaction]:
    """Lock the job's row, run the block, commit. Raises JobGone when there is no such job.

    Where the job ends in the block, whatever ends it, what its steps have processed is counted.
    """
    with sessions.begin() as session:
        # NO KEY UPDATE: others can still insert rows that refer to the job
        job = session.scalar(select(Job).where(Job.id == job_id).with_for_update(key_share=True))
        if job is None:
            raise JobGone(str(job_id))
        transaction = JobTransaction(session, job)
        was_over = transaction.is_over
        yield transaction
        # last: the step that ends the job is done by now
        if not was_over and transaction.is_over:
            session.flush()
            usage.settle(session, job)
        transaction.write_events()
