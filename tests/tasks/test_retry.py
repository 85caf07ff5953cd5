"""Retrying jobs: done steps are kept, missing ones are run, and the counters agree."""

from __future__ import annotations

from typing import Any

import pytest

from api.routes.jobs import cancel
from db.models import JobStatus, Step, StepKind, StepState
from db.queue.retry import retry_job
from db.queue.transaction import job_transaction
from db.session import Sessions
from speech.engines import Utterance
from tasks import flow
from tasks.runtime import Runtime
from tasks.step import run
from tasks.steps import align, diarize, draft, embed, finalize, ingest, refine
from tests.conftest import MODELS
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import MakeRuntime, event_types, job_of, recording, run_until_done, submit

ALL = [handler.handler for handler in (ingest, draft, refine, diarize, embed, align, finalize)]


class BrokenEngine:
    """Fails while ``broken``."""

    def __init__(self) -> None:
        self.broken = True

    def __call__(self, utterance: Utterance) -> str:
        if self.broken:
            raise RuntimeError("not today")
        return "we met on Monday"


def steps(sessions: Sessions) -> dict[tuple[str, int | None], Step]:
    with sessions() as session:
        return {(step.kind.value, step.chunk): step for step in session.query(Step)}


def retry(runtime: Runtime, job_id: Any) -> None:
    with job_transaction(runtime.sessions, job_id) as tx:
        retry_job(tx)


def assert_completed(runtime: FakeRuntime, job_id: Any, *, degraded: bool = False) -> None:
    job = job_of(runtime, job_id)
    assert (job.status, job.error_code, job.percent, job.degraded) == (JobStatus.COMPLETED, None, 100, degraded)
    assert job.drafted == job.refined == job.final == job.chunks == 2
    types = event_types(runtime, job_id)
    assert types[-1] == "job.completed"
    assert types.count("segment.final") == 2
    assert types.count("job.retried") == 1


def test_retry_after_every_model_failed(make_runtime: MakeRuntime) -> None:
    engine = BrokenEngine()
    runtime = make_runtime(draft=engine, refine=engine)
    job_id = submit(runtime, recording())
    run_until_done(runtime)
    assert job_of(runtime, job_id).error_code == "transcription_failed"
    engine.broken = False
    retry(runtime, job_id)
    job = job_of(runtime, job_id)
    assert (job.status, job.drafted, job.refined, job.final) == (JobStatus.PROCESSING, 0, 0, 0)
    run_until_done(runtime)
    assert_completed(runtime, job_id)
    assert steps(runtime.sessions)["ingest", None].attempt == 1, "what was done is not done again"


def test_retry_of_failed_drafts_without_refinement(make_runtime: MakeRuntime) -> None:
    engine = BrokenEngine()
    runtime = make_runtime(draft=engine)
    job_id = submit(runtime, recording(), options={"refine": "never"})
    run_until_done(runtime)
    assert job_of(runtime, job_id).error_code == "step_failed"
    engine.broken = False
    retry(runtime, job_id)
    run_until_done(runtime)
    assert_completed(runtime, job_id)


def test_retry_of_finalize_keeps_the_job_degraded(
    make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime(refine=BrokenEngine())
    job_id = submit(runtime, recording())
    original = runtime.storage.put

    def put(key: str, data: bytes, content_type: str) -> None:
        if "transcript" in key:
            raise ConnectionError("no")
        original(key, data, content_type)

    monkeypatch.setattr(runtime.storage, "put", put)
    run_until_done(runtime)
    assert job_of(runtime, job_id).error_code == "step_failed"
    monkeypatch.undo()
    retry(runtime, job_id)
    assert job_of(runtime, job_id).final == 2, "final chunks stay final"
    run_until_done(runtime)
    assert_completed(runtime, job_id, degraded=True)


@pytest.mark.parametrize("done", range(0, 12, 2))
def test_a_cancelled_job_can_be_retried_at_any_step(make_runtime: MakeRuntime, done: int) -> None:
    """With speakers, cancelled after so many steps."""
    runtime = make_runtime(models_dir=MODELS)
    job_id = submit(runtime, recording(), diarize=True)
    order = [ingest, draft, refine, diarize, draft, align, refine, align, diarize, embed, finalize]
    for module in order[:done]:
        runtime.max_batch_size = 1
        run(module.handler, runtime)
    with job_transaction(runtime.sessions, job_id) as tx:
        if not tx.job.status.finished:
            cancel(tx)
    if job_of(runtime, job_id).status == JobStatus.COMPLETED:
        pytest.skip("was completed by then")
    before = {key for key, step in steps(runtime.sessions).items() if step.state == StepState.DONE}
    retry(runtime, job_id)
    run_until_done(runtime, ALL)
    assert_completed(runtime, job_id)
    after = steps(runtime.sessions)
    assert all(after[key].attempt == 1 for key in before)
    assert {step.state for step in after.values()} == {StepState.DONE}
    assert StepKind.EMBED in {key[0] for key in after}


def test_without_drafts_the_refinement_is_tried_first_again(make_runtime: MakeRuntime) -> None:
    """The draft stands in for a refinement that failed, and makes room for the one that is retried."""
    engine = BrokenEngine()
    runtime = make_runtime(draft=engine, refine=engine)
    job_id = submit(runtime, recording(), options={"refine": "only"})
    run_until_done(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.error_code) == (JobStatus.FAILED, "transcription_failed")
    engine.broken = False
    retry(runtime, job_id)
    run_until_done(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.percent, job.degraded, job.final) == (JobStatus.COMPLETED, 100, False, 2)
    assert {step.kind for step in steps(runtime.sessions).values()}.isdisjoint({StepKind.DRAFT})
    assert event_types(runtime, job_id).count("segment.draft") == 0


@pytest.mark.parametrize("older", [False, True])
def test_without_drafts_a_cancelled_job_goes_on(
    make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording(), options={"refine": "only"})
    with monkeypatch.context() as ingesting:
        if older:
            ingesting.setattr(flow, "refines_first", lambda _: False)
        run(ingest.handler, runtime)
    with job_transaction(runtime.sessions, job_id) as tx:
        cancel(tx)
    retry(runtime, job_id)
    run_until_done(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.degraded, job.final) == (JobStatus.COMPLETED, False, job.chunks)
