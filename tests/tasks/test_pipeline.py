"""The pipeline on real servers with fake engines: transcripts, retries, failures."""

from __future__ import annotations

import json
import uuid

import pytest

from db import transcripts
from db.models import JobStatus, StepKind, StepState
from db.search.filters import Filters
from db.search.find import find
from db.search.query import parse
from db.tenancy import TenantSessions
from speech.engines import Utterance
from tasks.errors import Transient
from tasks.steps import draft, ingest
from tests.jobs import steps_of
from tests.tasks.pipeline import (
    MakeRuntime,
    counted,
    event_types,
    failing,
    job_of,
    recording,
    run_until_done,
    submit,
)


def test_a_recording_becomes_a_transcript(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, recording())
    run_until_done(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.percent, job.degraded) == (JobStatus.COMPLETED, 100, False)
    assert (job.chunks, job.drafted, job.refined, job.final) == (2, 2, 2, 2)
    assert job.duration == pytest.approx(52.4, abs=0.1)
    assert job.models["refine"]["engine"] == "refine"
    types = event_types(runtime, job_id)
    assert types[:2] == ["job.queued", "job.started"]
    assert types[-1] == "job.completed"
    assert (types.count("segment.draft"), types.count("segment.final")) == (2, 2)
    stored = json.loads(runtime.storage.get(f"{job.transcript_prefix}transcript.json"))
    assert [s["text"] for s in stored["segments"]] == ["we met on Monday"] * 2
    assert [s["index"] for s in stored["segments"]] == [0, 100]
    assert {s.state for s in steps_of(runtime.sessions, job_id)} == {StepState.DONE}


@pytest.mark.parametrize("drafted", ["we met on monday", ""])
def test_how_long_the_first_segment_took_is_measured_once(make_runtime: MakeRuntime, drafted: str) -> None:
    """Whether it comes with others in one batch, or after drafts that hear nothing."""
    before = counted("longhand_job_first_draft_seconds_count")
    runtime = make_runtime(draft=lambda _: drafted, draft_batch=2)
    submit(runtime, recording())
    run_until_done(runtime)
    assert counted("longhand_job_first_draft_seconds_count") == before + 1


def test_drafts_are_found_until_finals_are(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(draft=lambda _: "we met on mondays", refine=lambda _: "we met on Monday")
    job_id = submit(runtime, recording("jfk.flac"))

    def found(typed: str) -> list[tuple[uuid.UUID, str, bool]]:
        with TenantSessions(runtime.sessions)("default")() as session:
            hits = find(session, parse(f'"{typed}"'), Filters(), limit=10)
        return [(hit.passage["job_id"], hit.passage["text"], hit.passage["provisional"]) for hit in hits]

    run_until_done(runtime, (ingest.handler, draft.handler))
    assert found("met on mondays") == [(job_id, "we met on mondays", True)]
    run_until_done(runtime)
    assert found("met on mondays") == []
    assert found("met on monday") == [(job_id, "we met on Monday", False)]


@pytest.mark.parametrize("error", [Transient("busy"), RuntimeError("a bug")])
def test_a_failed_step_is_retried(make_runtime: MakeRuntime, error: Exception) -> None:
    runtime = make_runtime(draft=failing(2, error))
    job_id = submit(runtime, recording("jfk.flac"))
    run_until_done(runtime)
    assert job_of(runtime, job_id).status == JobStatus.COMPLETED
    (step,) = steps_of(runtime.sessions, job_id, StepKind.DRAFT)
    assert step.attempt == 3


def test_one_bad_chunk_fails_alone(make_runtime: MakeRuntime) -> None:
    seen: list[bytes] = []

    def refine(utterance: Utterance) -> str:
        seen.append(utterance.samples.tobytes())
        if seen[-1] == seen[0]:
            raise RuntimeError("poison")
        return "we met on Monday"

    runtime = make_runtime(refine=refine)
    job_id = submit(runtime, recording())
    run_until_done(runtime)
    with runtime.sessions() as session:
        sources = [s["source"] for s in transcripts.final_segments(session, job_id)]
    assert sources == ["draft", "refined"]


def test_a_chunk_that_no_model_transcribes_fails_the_job(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(draft=failing(999, RuntimeError()), refine=failing(999, RuntimeError()))
    job_id = submit(runtime, recording("jfk.flac"))
    run_until_done(runtime)
    assert job_of(runtime, job_id).error_code == "transcription_failed"
