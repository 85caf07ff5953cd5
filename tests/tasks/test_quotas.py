"""Hours of audio at ingest, where the length of a recording becomes known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import func, select

from db.access import tenants
from db.models import Chunk, Job, JobStatus, StepKind
from db.queue.claims import Claim
from db.queue.retry import retry_job
from db.queue.transaction import job_transaction
from db.session import Sessions
from db.settings import Settings
from tasks.handler import Work
from tasks.step import run
from tasks.steps import ingest
from tests.jobs import make_job, steps_of
from tests.media import load, media_file
from tests.tasks.pipeline import MakeRuntime, event_types, job_of, recording, run_until_done, submit

SECONDS = 36.0
"""Of the recording, about."""


def allow(sessions: Sessions, hours: float) -> None:
    with sessions.begin() as session:
        tenants.change(session, "default", {"audio_hours_month": hours})


def chunks(sessions: Sessions) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(Chunk)) or 0


def test_a_recording_longer_than_what_is_left_fails_and_may_be_retried(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    allow(runtime.sessions, 10 / 3600)
    job_id = submit(runtime, recording())
    run_until_done(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.error_code) == (JobStatus.FAILED, "quota_audio_hours")
    assert "UTC" in (job.error_message or "")
    assert event_types(runtime, job_id) == ["job.queued", "job.failed"]
    assert chunks(runtime.sessions) == 0, "what is declared exactly is refused before it is cut"
    assert steps_of(runtime.sessions, job_id, StepKind.INGEST)[0].attempt == 1
    assert runtime.storage.get(job.source_key) == recording()
    allow(runtime.sessions, 1)
    with job_transaction(runtime.sessions, job_id) as tx:
        retry_job(tx)
    run_until_done(runtime)
    assert job_of(runtime, job_id).status == JobStatus.COMPLETED


def test_what_declares_no_exact_length_is_cut_as_far_as_there_is_room(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    allow(runtime.sessions, 10 / 3600)
    body = media_file(load("ocean_0036.flac")[None], container="adts", codec="aac")
    job_id = submit(runtime, body)
    run_until_done(runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.error_code) == (JobStatus.FAILED, "quota_audio_hours")
    assert chunks(runtime.sessions) <= 1
    assert event_types(runtime, job_id)[-1] == "job.failed"


def test_what_others_are_being_cut_of_is_left_to_them(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    allow(runtime.sessions, 1)
    other = make_job(runtime.sessions, duration=3600 - SECONDS / 2)
    with job_transaction(runtime.sessions, other) as tx:
        tx.skip_open_steps()
        tx.job.status = JobStatus.PROCESSING
    first = submit(runtime, recording())
    run_until_done(runtime)
    assert job_of(runtime, first).error_code == "quota_audio_hours"
    with runtime.sessions.begin() as session:
        session.get_one(Job, other).status = JobStatus.CANCELLED
    second = submit(runtime, recording())
    run_until_done(runtime)
    assert job_of(runtime, second).status == JobStatus.COMPLETED


def test_the_true_length_is_checked_last(make_runtime: MakeRuntime) -> None:
    """The room there was is gone when the recording has been cut."""
    runtime = make_runtime()
    allow(runtime.sessions, 1)
    job_id = submit(runtime, recording())

    def taken_meanwhile(claims: Sequence[Claim], work: Work) -> list[ingest.IngestOutput]:
        output = ingest.work(claims, work)
        allow(runtime.sessions, 10 / 3600)
        return output

    run(replace(ingest.handler, work=taken_meanwhile), runtime)
    job = job_of(runtime, job_id)
    assert (job.status, job.error_code, job.ingested) == (JobStatus.FAILED, "quota_audio_hours", False)


def test_settings_limit_whoever_has_no_row(make_runtime: MakeRuntime, settings: Settings) -> None:
    runtime = make_runtime(tenant_audio_hours=10 / 3600)
    limited = submit(runtime, recording())
    run_until_done(runtime)
    assert job_of(runtime, limited).error_code == "quota_audio_hours"
