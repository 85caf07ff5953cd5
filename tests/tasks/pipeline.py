"""Running the pipeline in a test: submitting recordings, running steps, reading the results."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Sequence

from prometheus_client import REGISTRY
from sqlalchemy import func, select, text

from db.events import event_log
from db.models import Job, Step, StepKind, StepState
from db.queue.claims import Claim, claim_steps
from db.session import Sessions
from speech.engines import Utterance
from tasks.handler import Handler
from tasks.runtime import Runtime
from tasks.step import run
from tasks.steps import align, draft, finalize, ingest, refine
from tests.jobs import make_job
from tests.media import DATA
from tests.tasks.fakes import FakeRuntime
from tests.waiting import until

MakeRuntime = Callable[..., FakeRuntime]
HANDLERS = (ingest.handler, draft.handler, refine.handler, align.handler, finalize.handler)


def run_until_done(
    runtime: Runtime, kinds: Sequence[Handler] = HANDLERS, tenants: Collection[str] | None = None
) -> None:
    """Run steps of these kinds until none is open, or none of these tenants."""
    open_steps = select(func.count(Step.id)).where(
        Step.state.in_((StepState.READY, StepState.LEASED)), Step.kind.in_([handler.kind for handler in kinds])
    )
    if tenants is not None:
        open_steps = open_steps.join(Job).where(Job.tenant.in_(tenants))

    def done() -> bool:
        for handler in kinds:
            while run(handler, runtime):
                pass
        with runtime.sessions() as session:
            return not session.scalar(open_steps)

    until(done, "no step is left")


def submit(runtime: Runtime, body: bytes, **values: object) -> uuid.UUID:
    job_id = make_job(runtime.sessions, bytes=len(body), **values)
    runtime.storage.put(f"jobs/{job_id}/source", body, "audio/flac")
    return job_id


def job_of(runtime: Runtime, job_id: uuid.UUID) -> Job:
    with runtime.sessions() as session:
        return session.get_one(Job, job_id)


def counted(metric: str, **labels: str) -> float:
    """What this process has counted, in all tests so far."""
    return REGISTRY.get_sample_value(metric, labels) or 0.0


def event_types(runtime: Runtime, job_id: uuid.UUID) -> list[str]:
    with runtime.sessions() as session:
        events = event_log.after(session, job_id, 0)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return [event.type for event in events]


def recording(name: str = "ocean_0036.flac") -> bytes:
    return (DATA / name).read_bytes()


def failing(times: int, error: Exception) -> Callable[[Utterance], str]:
    remaining = [times]

    def transcribe(utterance: Utterance) -> str:
        if remaining[0] > 0:
            remaining[0] -= 1
            raise error
        return "we met on monday"

    return transcribe


def claim_one(runtime: Runtime, kind: StepKind) -> Claim:
    (claimed,) = claim_steps(runtime.sessions, kind, 1, "tester", runtime.settings)
    return claimed


def expire_leases(sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.execute(text("UPDATE steps SET lease_until = now() - interval '1 s' WHERE state = 'leased'"))
