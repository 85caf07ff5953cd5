"""The event log: no gaps, no reordering, nothing announced that was not committed."""

from __future__ import annotations

import threading
import uuid

import pytest

from db import jobs
from db.models import EventType, StepKind
from db.session import Sessions
from db.transaction import JobGone, job_transaction
from tests.jobs import make_job, steps_of


def test_numbers_have_no_gaps_under_concurrent_writers(sessions: Sessions) -> None:
    job_id = make_job(sessions)

    def write() -> None:
        for _ in range(25):
            with job_transaction(sessions, job_id) as tx:
                tx.emit(EventType.JOB_PROGRESS, {})

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with sessions() as session:
        events = jobs.events_after(session, job_id, 0)
    assert [event.seq for event in events] == list(range(1, 102))
    assert [event.at for event in events] == sorted(event.at for event in events)


def test_a_rolled_back_transaction_leaves_no_number_behind(sessions: Sessions) -> None:
    job_id = make_job(sessions)

    def break_off() -> None:
        with job_transaction(sessions, job_id) as tx:
            tx.emit(EventType.JOB_PROGRESS, {})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    with job_transaction(sessions, job_id) as tx:
        tx.emit(EventType.JOB_PROGRESS, {})
    with sessions() as session:
        assert [event.seq for event in jobs.events_after(session, job_id, 0)] == [1, 2]


def test_a_step_is_enqueued_once(sessions: Sessions) -> None:
    job_id = make_job(sessions)
    with job_transaction(sessions, job_id) as tx:
        tx.enqueue(StepKind.FINALIZE)
        tx.enqueue(StepKind.FINALIZE)
        assert tx.ready == [StepKind.FINALIZE]
    assert [step.kind for step in steps_of(sessions, job_id)] == [StepKind.INGEST, StepKind.FINALIZE]


def test_a_job_that_is_gone_says_so(sessions: Sessions) -> None:
    with pytest.raises(JobGone), job_transaction(sessions, uuid.uuid4()):
        pass
