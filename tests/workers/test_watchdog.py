from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from db.models import StepKind, StepState
from db.queue.claims import Claim, claim_steps
from db.settings import Settings
from tasks import registry
from tasks.handler import Handler
from tasks.runtime import Runtime
from tests.jobs import make_job, steps_of
from tests.waiting import until
from workers.shutdown import requeue_held_steps
from workers.watchdog import Watchdog


@pytest.fixture
def runtime(settings: Settings) -> Runtime:
    return Runtime(settings.model_copy(update={"heal_seconds": 0.05, "retry_seconds": 0.001, "deaf_seconds": 0.2}))


@pytest.fixture
def watchdog(runtime: Runtime) -> Iterator[Watchdog]:
    made = Watchdog(runtime, "cpu")
    yield made
    made.stop()


def test_a_watchdog_heals_without_beat(runtime: Runtime) -> None:
    job_id = make_job(runtime.sessions)
    claim_steps(runtime.sessions, StepKind.INGEST, 1, "a worker that dies", runtime.settings)
    with runtime.sessions.begin() as session:
        session.execute(text("UPDATE steps SET lease_until = now() - interval '1 s'"))
    watchdog = Watchdog(runtime, "gpu")
    watchdog.start()
    # the step is ready again, and a hint for it waits in the queue
    until(
        lambda: steps_of(runtime.sessions, job_id)[0].state == StepState.READY and runtime.bus.count_hints("cpu")
    )
    watchdog.stop()


def test_no_error_ends_a_watchdog(
    runtime: Runtime, watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rounds: list[None] = []

    def broken(_: Runtime) -> None:
        rounds.append(None)
        raise KeyError("a bug")

    monkeypatch.setattr("workers.watchdog.heal", broken)
    watchdog.start()
    until(lambda: len(rounds) >= 3)
    assert "a bug" in caplog.text


def test_a_worker_without_hints_works_and_then_shuts_down(
    runtime: Runtime, watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No Celery consumer runs here: hints are sent, but not received."""
    reasons: list[str] = []
    runtime.shut_down = reasons.append
    handler = Handler(StepKind.INGEST, lambda claims, work: [None], lambda tx, claim, output: None, deadline=60)
    monkeypatch.setitem(registry.HANDLERS, StepKind.INGEST, handler)
    first = make_job(runtime.sessions)
    watchdog.start()
    until(lambda: steps_of(runtime.sessions, first)[0].state == StepState.DONE)

    def keeps_getting_jobs() -> bool:
        make_job(runtime.sessions)
        return bool(reasons)

    until(keeps_getting_jobs)
    assert reasons[0] == "Redis answers, but its hints do not reach this worker"


def test_a_worker_without_redis_works_on(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    alone = Runtime(runtime.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    reasons: list[str] = []
    alone.shut_down = reasons.append
    handler = Handler(StepKind.INGEST, lambda claims, work: [None], lambda tx, claim, output: None, deadline=60)
    monkeypatch.setitem(registry.HANDLERS, StepKind.INGEST, handler)
    watchdog = Watchdog(alone, "cpu")
    watchdog.start()
    for _ in range(10):
        job_id = make_job(alone.sessions)
        until(lambda job_id=job_id: steps_of(alone.sessions, job_id)[0].state == StepState.DONE)  # type: ignore[misc]
    watchdog.stop()
    assert reasons == []


def test_a_stopping_worker_requeues_its_steps(runtime: Runtime) -> None:
    job_id = make_job(runtime.sessions)

    def claim(retries: bool) -> list[Claim]:
        return claim_steps(runtime.sessions, StepKind.INGEST, 1, "me", runtime.settings, retries=retries)

    (claimed,) = runtime.claims.acquire(claim)
    runtime.claims.stop_acquiring()
    make_job(runtime.sessions)
    assert runtime.claims.acquire(claim) == [], "a stopping worker claims nothing"
    requeue_held_steps(runtime)
    (step,) = steps_of(runtime.sessions, job_id)
    assert (step.state, step.attempt, step.error) == (StepState.READY, 0, "its worker was told to stop")
    assert claimed.attempt == 1
