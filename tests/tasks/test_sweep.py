"""The hourly sweep looks at what has changed, at everything within a week, and never twice at once."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace

import pytest
from sqlalchemy import event, update

from db import rounds
from db.models import Job, JobStatus, Round
from tasks.maintenance import sweep
from tests.jobs import make_job
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import MakeRuntime

NO_GRACE = timedelta(0)
HOUR = timedelta(hours=1)


@pytest.fixture
def runtime(make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    """One whose objects are old enough as soon as they are written."""
    monkeypatch.setattr(sweep, "GRACE", NO_GRACE)
    monkeypatch.setattr(sweep, "UPLOAD_GRACE", NO_GRACE)
    return make_runtime()


def swept_at(runtime: FakeRuntime, moment: datetime) -> None:
    with runtime.sessions.begin() as session:
        session.execute(update(Round).where(Round.name == rounds.SWEEP).values(done_until=moment))


def done_until(runtime: FakeRuntime) -> datetime:
    with runtime.sessions() as session:
        return session.get_one(Round, rounds.SWEEP).done_until


def ended(runtime: FakeRuntime, ago: timedelta) -> uuid.UUID:
    job_id = make_job(runtime.sessions)
    with runtime.sessions.begin() as session:
        values = {"status": JobStatus.FAILED, "error_code": "x", "completed_at": datetime.now(UTC) - ago}
        session.execute(update(Job).where(Job.id == job_id).values(values))
    return job_id


def orphan(runtime: FakeRuntime, job_id: uuid.UUID | str) -> str:
    key = f"jobs/{job_id}/chunks/00000-0.flac"
    runtime.storage.put(key, b"orphan", "audio/flac")
    return key


def left(runtime: FakeRuntime) -> set[str]:
    return {key for key, _ in runtime.storage.list("")}


@contextmanager
def listed(runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The prefixes that are listed within the block."""
    prefixes: list[str] = []
    original = runtime.storage.list

    def list_(prefix: str) -> Iterator[tuple[str, datetime]]:
        prefixes.append(prefix)
        return original(prefix)

    with monkeypatch.context() as patched:
        patched.setattr(runtime.storage, "list", list_)
        yield prefixes


def test_an_hour_is_the_jobs_that_ended_in_it_and_few_folders(
    runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, within = ended(runtime, 3 * HOUR), ended(runtime, HOUR / 2)
    kept, gone = orphan(runtime, before), orphan(runtime, within)
    swept_at(runtime, datetime.now(UTC) - HOUR)
    with listed(runtime, monkeypatch) as prefixes:
        sweep.sweep_next(runtime)
    folders = [prefix for prefix in prefixes if len(prefix) == len("jobs/00")]
    assert 1 <= len(folders) <= 2
    assert f"jobs/{within}/" in prefixes
    assert f"jobs/{before}/" not in prefixes
    assert gone not in left(runtime)
    assert kept in left(runtime) or kept[:7] in folders
    assert datetime.now(UTC) - done_until(runtime) < timedelta(minutes=1)


def test_a_week_of_hours_sees_everything(runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    strangers = {orphan(runtime, uuid.UUID(int=first << 120)) for first in (0x00, 0x7F, 0xA3, 0xFF)}
    began = datetime.now(UTC) - sweep.WEEK
    seen: list[str] = []
    for hour in range(7 * 24):
        folders = range(*(sweep._folders_until(began + (hour + more) * HOUR) for more in (0, 1)))
        assert len(folders) <= 2
        seen += [f"{folder % sweep.FOLDERS:02x}" for folder in folders]
    assert sorted(seen) == [f"{number:02x}" for number in range(256)]
    swept_at(runtime, began + timedelta(minutes=1))
    sweep.sweep_next(runtime)
    assert not strangers & left(runtime)


def test_after_more_than_a_week_everything_is_looked_at(
    runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "sweep", partial(sweep.sweep, grace=NO_GRACE))
    odd = orphan(runtime, "odd")
    swept_at(runtime, datetime.now(UTC) - 2 * sweep.WEEK)
    sweep.sweep_next(runtime)
    assert odd not in left(runtime)
    assert datetime.now(UTC) - done_until(runtime) < timedelta(minutes=1)


def test_one_at_a_time(runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    swept_at(runtime, datetime.now(UTC) - HOUR)
    with rounds.claimed(runtime.sessions, rounds.SWEEP) as turn, listed(runtime, monkeypatch) as prefixes:
        assert turn is not None
        sweep.sweep_next(runtime)
        assert prefixes == []
    sweep.sweep_next(runtime)
    assert datetime.now(UTC) - done_until(runtime) < timedelta(minutes=1)


def test_a_sweep_that_was_taken_over_stops(runtime: FakeRuntime) -> None:
    since = datetime.now(UTC) - HOUR
    swept_at(runtime, since)
    turn = rounds.claimed(runtime.sessions, rounds.SWEEP).__enter__()
    assert turn is not None
    lease_runs_out(runtime)
    with rounds.claimed(runtime.sessions, rounds.SWEEP) as successor:
        assert successor is not None
        with pytest.raises(rounds.RoundLost):
            turn.advance(datetime.now(UTC))
    assert done_until(runtime) == since


def lease_runs_out(runtime: FakeRuntime) -> None:
    with runtime.sessions.begin() as session:
        session.execute(update(Round).values(claimed_until=datetime.now(UTC) - HOUR))


def test_a_sweep_that_failed_is_made_up_for(runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = orphan(runtime, ended(runtime, HOUR / 2))
    swept_at(runtime, datetime.now(UTC) - HOUR)
    with monkeypatch.context() as broken:
        broken.setattr(runtime.storage, "list", lambda prefix: (_ for _ in ()).throw(ConnectionError(prefix)))
        with pytest.raises(ConnectionError):
            sweep.sweep_next(runtime)
    lease_runs_out(runtime)
    sweep.sweep_next(runtime)
    assert gone not in left(runtime)


def test_an_hours_sweep_asks_nothing_of_jobs_that_did_not_change(
    runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many jobs are kept, and however many objects."""
    for _ in range(5):
        orphan(runtime, ended(runtime, 5 * HOUR))
    monkeypatch.setattr(sweep, "_folders_until", lambda moment: 0)
    swept_at(runtime, datetime.now(UTC) - HOUR)
    statements: list[str] = []
    bind = runtime.sessions.kw["bind"]
    event.listen(bind, "before_cursor_execute", lambda _c, _cursor, statement, *_: statements.append(statement))
    sweep.sweep_next(runtime)
    assert [statement for statement in statements if "chunks" in statement] == []


def test_a_host_whose_clock_is_wrong_removes_nothing_young(
    make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime()
    ahead = SimpleNamespace(now=lambda zone: datetime.now(zone) + 2 * sweep.WEEK)
    monkeypatch.setattr(sweep, "datetime", ahead)
    young = orphan(runtime, uuid.uuid4())
    sweep.sweep(runtime)
    assert young in left(runtime)
