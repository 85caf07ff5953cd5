"""Transactions on a job: event numbers without gaps, steps enqueued once."""

from __future__ import annotations

import threading
import uuid

import pytest
from sqlalchemy import text
from sqlalchemy.exc import InternalError

import db.session
from db.events import event_log
from db.models import EventType, Job, StepKind, StepState
from db.queue.transaction import JobGone, job_transaction
from db.session import Sessions, make_sessions
from db.settings import Settings
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
        events = event_log.after(session, job_id, 0)
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
        assert [event.seq for event in event_log.after(session, job_id, 0)] == [1, 2]


def test_a_step_is_enqueued_once(sessions: Sessions) -> None:
    job_id = make_job(sessions)
    for new in ([StepKind.FINALIZE], []):
        with job_transaction(sessions, job_id) as tx:
            tx.enqueue(StepKind.FINALIZE)
            tx.enqueue(StepKind.FINALIZE)
        assert tx.ready == new
    assert [step.kind for step in steps_of(sessions, job_id)] == [StepKind.INGEST, StepKind.FINALIZE]


def test_what_was_enqueued_before_all_work_ends_does_not_begin(sessions: Sessions) -> None:
    job_id = make_job(sessions)
    with job_transaction(sessions, job_id) as tx:
        tx.enqueue(StepKind.FINALIZE)
        tx.skip_open_steps()
    assert {step.state for step in steps_of(sessions, job_id)} == {StepState.SKIPPED}


def test_a_deleted_job_raises(sessions: Sessions) -> None:
    with pytest.raises(JobGone), job_transaction(sessions, uuid.uuid4()):
        pass


def test_an_idle_transaction_is_ended(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(db.session.TIMEOUTS, "idle_in_transaction_session_timeout", 1)
    sessions = make_sessions(settings, name="test")
    job_id = make_job(sessions)

    def freeze() -> None:
        with job_transaction(sessions, job_id) as frozen:
            emit()  # waits for the lock of the transaction around it, until that is taken away
            frozen.emit(EventType.JOB_PROGRESS, {})

    def emit() -> None:
        with job_transaction(sessions, job_id) as other:
            other.emit(EventType.JOB_PROGRESS, {})

    with pytest.raises(InternalError, match="idle-in-transaction"):
        freeze()
    with sessions() as session:
        assert session.get_one(Job, job_id).event_seq == 2


def test_a_connection_that_died_unused_is_replaced(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db.session, "CHECKED_AFTER_SECONDS", 0.0)
    sessions, others = make_sessions(settings, name="test"), make_sessions(settings, name="other")
    with sessions() as session:
        pid = session.scalars(text("SELECT pg_backend_pid()")).one()
    with others.begin() as session:
        session.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    with sessions() as session:
        assert session.scalars(text("SELECT pg_backend_pid()")).one() != pid
