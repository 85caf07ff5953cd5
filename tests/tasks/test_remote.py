"""Refinement by a model behind HTTP on real servers: what becomes of jobs whose model is away."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from db.models import Job, JobStatus, Role, StepKind, StepState, StoredHypothesis
from db.settings import Settings
from http_engines import pool
from speech.load import SelectedEngine
from tasks.engines import ANY, Engines, Wanted
from tasks.maintenance import healing
from tasks.step import run
from tasks.steps import align, draft, finalize, ingest, refine, transcribe
from tests.http_engines.server import MODEL, VllmServer, erring, slow, vllm
from tests.jobs import steps_of
from tests.tasks.fakes import FakeEngines, FakeRuntime
from tests.tasks.pipeline import job_of, recording, run_until_done, submit
from tests.waiting import until

REFINED = "we met on Monday"


class RemoteFakeEngines(FakeEngines):
    """Fake drafts; refinement by whatever the settings say."""

    def refiner(self, wanted: Wanted = ANY) -> SelectedEngine[Any]:
        return Engines.refiner(self, wanted)


MakeRemote = Callable[..., FakeRuntime]


@pytest.fixture
def make_remote(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeRemote:
    monkeypatch.setattr(pool, "WAIT_SECONDS", 0.1)
    monkeypatch.setattr(transcribe, "AWAIT_SECONDS", 0.0)

    def make(
        url: str, patience: float = 0.0, engines: str = "http", extra: str = "", **changes: Any
    ) -> FakeRuntime:
        file = tmp_path / "endpoints.toml"
        file.write_text(
            f'[[model]]\nname = "qwen"\nmodel = "{MODEL}"\nhosts = ["{url}"]\naligners = []\n'
            f"base_seconds = 5\npatience = {patience}\nprice_per_minute = 0.006\n{extra}"
        )
        quick = {"retry_seconds": 0.001, "max_attempts": 3, "refine_engine": "http", "endpoints": file} | changes
        runtime = FakeRuntime(
            settings.model_copy(update=quick), lambda _: "we met on monday", lambda _: "never asked"
        )
        runtime.engines = RemoteFakeEngines(runtime)
        return runtime

    return make


@pytest.fixture
def server() -> Iterator[VllmServer]:
    with vllm(say=lambda asked: f"language English<asr_text>{REFINED}.") as running:
        yield running


@pytest.fixture
def dead_url() -> str:
    with vllm() as gone:
        return gone.url


def transcript(runtime: FakeRuntime, job: Job) -> list[tuple[str, str]]:
    stored = json.loads(runtime.storage.get(f"{job.transcript_prefix}transcript.json"))
    return [(segment["text"], segment["source"]) for segment in stored["segments"]]


def test_a_job_says_what_served_it_and_what_timed_its_words(server: VllmServer, make_remote: MakeRemote) -> None:
    runtime = make_remote(server.url)
    job_id = submit(runtime, recording(), options={"hotwords": ["Ada"]})
    run_until_done(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.degraded) == (JobStatus.COMPLETED, False)
    assert transcript(runtime, job) == [(f"{REFINED}.", "refined")] * 2
    assert job.models["refine"] == {
        "engine": "http",
        "model": "qwen",
        "device": "http",
        "compute_type": "chat",
        "instead_of": None,
        "word_times": "draft",
        "price_per_minute": 0.006,
        "served_by": ["qwen"],
    }
    assert {asked.context for asked in server.asked} == {"Ada"}
    with runtime.sessions() as session:
        stored = session.scalars(select(StoredHypothesis).where(StoredHypothesis.role == Role.REFINED)).all()
    assert all(
        w["start"] < w["end"] for row in stored for phrase in row.content["phrases"] for w in phrase["words"]
    )


def test_a_dead_model_leaves_drafts_and_says_so(dead_url: str, make_remote: MakeRemote) -> None:
    runtime = make_remote(dead_url)
    job_id = submit(runtime, recording())
    run_until_done(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.degraded) == (JobStatus.COMPLETED, True)
    assert transcript(runtime, job) == [("we met on monday", "draft")] * 2
    dead = steps_of(runtime.sessions, job_id, StepKind.REFINE)
    assert {(step.state, step.attempt) for step in dead} == {(StepState.DEAD, 1)}
    assert all("qwen" in (step.error or "") for step in dead)


def test_what_is_refined_alone_is_drafted_then(dead_url: str, make_remote: MakeRemote) -> None:
    runtime = make_remote(dead_url)
    job_id = submit(runtime, recording(), options={"refine": "only"})
    run_until_done(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.degraded) == (JobStatus.COMPLETED, True)
    assert set(job.models) == {"draft"}


def test_a_model_that_is_back_in_time_has_cost_nothing(make_remote: MakeRemote) -> None:
    with vllm() as gone:
        port = gone.port
    runtime = make_remote(gone.url, patience=600)
    job_id = submit(runtime, recording())
    run_until_done(runtime, [ingest.handler, draft.handler])
    for _ in range(3):
        assert run(refine.handler, runtime)
    waiting = steps_of(runtime.sessions, job_id, StepKind.REFINE)
    assert {(step.state, step.attempt) for step in waiting} == {(StepState.READY, 0)}
    with vllm(port=port, say=lambda asked: f"language English<asr_text>{REFINED}."):
        begun = time.monotonic()
        run_until_done(runtime)
        assert time.monotonic() - begun < 20
    job = job_of(runtime, job_id)
    assert (job.status, job.degraded) == (JobStatus.COMPLETED, False)
    assert transcript(runtime, job) == [(f"{REFINED}.", "refined")] * 2


def test_a_chunk_that_waits_for_its_model_leaves_the_place_to_others(
    server: VllmServer, dead_url: str, make_remote: MakeRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcribe, "AWAIT_SECONDS", 60.0)
    second = f'[[model]]\nname = "second"\nmodel = "{MODEL}"\nhosts = ["{server.url}"]\naligners = []\n'
    runtime = make_remote(dead_url, patience=600, extra=second, refine_batch=2)
    waiting = submit(runtime, recording(), options={"refine_model": "qwen"})
    run_until_done(runtime, [ingest.handler, draft.handler])
    assert len(run(refine.handler, runtime)) == 2
    assert len(run(refine.handler, runtime)) == 0
    assert {s.attempt for s in steps_of(runtime.sessions, waiting, StepKind.REFINE)} == {0}
    served = submit(runtime, recording(), options={"refine_model": "second"})

    def is_served() -> bool:
        for step in (ingest, draft, refine, align, finalize):
            run(step.handler, runtime)
        return job_of(runtime, served).status == JobStatus.COMPLETED

    until(is_served)


def test_the_jobs_deadline_holds_however_patient_the_operators_are(dead_url: str, make_remote: MakeRemote) -> None:
    runtime = make_remote(dead_url, patience=86_400)
    begun = time.monotonic()
    job_id = submit(runtime, recording(), options={"degrade_after": 2.0})
    run_until_done(runtime)
    assert time.monotonic() - begun > 2
    job = job_of(runtime, job_id)
    assert (job.status, job.degraded) == (JobStatus.COMPLETED, True)


def test_healing_ends_the_wait_of_what_no_worker_holds(dead_url: str, make_remote: MakeRemote) -> None:
    runtime = make_remote(dead_url, patience=86_400)
    job_id = submit(runtime, recording(), options={"degrade_after": 4.0})
    run_until_done(runtime, [ingest.handler, draft.handler])
    assert run(refine.handler, runtime)
    assert {s.attempt for s in steps_of(runtime.sessions, job_id, StepKind.REFINE)} == {0}

    def skipped() -> bool:
        healing.skip_overdue_refinements(runtime)
        return {s.state for s in steps_of(runtime.sessions, job_id, StepKind.REFINE)} == {StepState.SKIPPED}

    until(skipped, seconds=30)
    run_until_done(runtime, [align.handler, finalize.handler])
    assert job_of(runtime, job_id).degraded


def test_a_request_ends_with_the_jobs_deadline(server: VllmServer, make_remote: MakeRemote) -> None:
    server.behaviour = slow(30)
    runtime = make_remote(server.url, patience=86_400)
    begun = time.monotonic()
    job_id = submit(runtime, recording(), options={"degrade_after": 1.0})
    run_until_done(runtime)
    assert time.monotonic() - begun < 15
    job = job_of(runtime, job_id)
    assert (job.status, job.degraded) == (JobStatus.COMPLETED, True)


def test_a_chunk_that_the_model_cannot_take_keeps_its_draft(server: VllmServer, make_remote: MakeRemote) -> None:
    refused: list[int] = []

    def behave(handler: Any) -> bool:
        samples = server.asked[-1].samples
        assert samples is not None
        refused.append(len(samples))
        return len(samples) == min(refused) and len(refused) == 1 and erring(400)(handler)

    server.behaviour = behave
    runtime = make_remote(server.url, extra="concurrency = 1\n")
    job_id = submit(runtime, recording())
    run_until_done(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.degraded) == (JobStatus.COMPLETED, True)
    assert sorted(source for _, source in transcript(runtime, job)) == ["draft", "refined"]


def test_the_next_in_order_serves_where_the_first_is_away(
    server: VllmServer, dead_url: str, make_remote: MakeRemote
) -> None:
    second = f'[[model]]\nname = "second"\nmodel = "{MODEL}"\nhosts = ["{server.url}"]\naligners = []\n'
    runtime = make_remote(dead_url, patience=86_400, extra=second)
    named, unnamed = (
        submit(runtime, recording(), options=options) for options in ({"refine_model": "second"}, {})
    )
    run_until_done(runtime)
    for job_id, instead_of in ((named, None), (unnamed, "qwen")):
        job = job_of(runtime, job_id)
        assert (job.status, job.degraded) == (JobStatus.COMPLETED, False)
        assert (job.models["refine"]["model"], job.models["refine"]["instead_of"]) == ("second", instead_of)


@pytest.mark.parametrize("translated_first", [True, False])
def test_a_translation_beside_another_job_gets_an_engine_of_its_own(
    server: VllmServer, make_remote: MakeRemote, translated_first: bool
) -> None:
    """The model writes what was said: nobody may take that for a translation."""
    runtime = make_remote(server.url, refine_batch=8)
    jobs: dict[bool, uuid.UUID] = {}
    for translate in (translated_first, not translated_first):
        options = {"refine": "only"} | ({"translate": True} if translate else {})
        jobs[translate] = submit(runtime, recording("jfk.flac"), options=options)
    run_until_done(runtime)
    assert set(job_of(runtime, jobs[False]).models) == {"refine"}
    assert set(job_of(runtime, jobs[True]).models) == {"draft"}
    assert job_of(runtime, jobs[True]).degraded


def test_a_model_that_was_named_and_is_gone_from_the_file(server: VllmServer, make_remote: MakeRemote) -> None:
    runtime = make_remote(server.url)
    job_id = submit(runtime, recording(), options={"refine_model": "former"})
    run_until_done(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.degraded) == (JobStatus.COMPLETED, True)


def test_a_file_without_any_model_left(server: VllmServer, make_remote: MakeRemote) -> None:
    runtime = make_remote(server.url)
    assert runtime.settings.endpoints is not None
    runtime.settings.endpoints.write_text("")
    job_id = submit(runtime, recording("jfk.flac"))
    run_until_done(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.degraded) == (JobStatus.COMPLETED, True)


def test_the_file_is_read_again_when_it_changes(
    server: VllmServer, dead_url: str, make_remote: MakeRemote, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = make_remote(dead_url)
    file = runtime.settings.endpoints
    assert file is not None
    first = submit(runtime, recording("jfk.flac"))
    run_until_done(runtime)
    assert job_of(runtime, first).degraded
    file.write_text(file.read_text() + "nonsense\n")
    assert runtime.engines.remote.names("refine") == ["qwen"]
    assert "no TOML" in caplog.text
    file.write_text(file.read_text().replace("nonsense\n", "").replace(dead_url, server.url))
    second = submit(runtime, recording("jfk.flac"))
    run_until_done(runtime)
    assert not job_of(runtime, second).degraded
