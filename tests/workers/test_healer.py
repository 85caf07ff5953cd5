from __future__ import annotations

import time

from sqlalchemy import text

from db import steps
from db.models import StepKind, StepState
from db.settings import Settings
from tasks.runtime import Runtime
from tests.jobs import make_job, steps_of
from workers.healer import Healer


def test_a_worker_heals_without_beat(settings: Settings) -> None:
    quick = {"heal_seconds": 0.05, "retry_seconds": 0.001}
    runtime = Runtime(settings.model_copy(update=quick))
    job_id = make_job(runtime.sessions)
    steps.claim(runtime.sessions, StepKind.INGEST, 1, "a worker that dies", runtime.settings)
    with runtime.sessions.begin() as session:
        session.execute(text("UPDATE steps SET lease_until = now() - interval '1 s'"))
    healer = Healer(runtime)
    healer.start()
    deadline = time.monotonic() + 20
    # the step is ready again, and a hint for it waits in the queue
    while steps_of(runtime.sessions, job_id)[0].state != StepState.READY or not runtime.bus.hints("cpu"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    healer.stop()
