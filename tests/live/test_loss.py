"""What becomes of words where connections, gateways and engines die."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from itertools import pairwise

import numpy as np
import pytest
from sqlalchemy import func, select, update

from api.routes.jobs import cancel
from db import jobs
from db.models import Chunk, Job, JobStatus, LiveFinal, LivePiece, LiveSession, Step, StepKind
from db.queue.retry import retry_job
from db.queue.transaction import job_transaction
from db.session import Sessions
from db.settings import Settings
from live.stages import AsrEvent, AsrSession, AsrStart, AudioFrame, Recognizer, StageDead, Stages
from tasks.maintenance import retention
from tasks.steps import align, fetch, finalize, ingest, refine
from tasks.transaction import change_job
from tests.live.clients import RATE, LiveClient, Pcm, live_client, speech
from tests.live.conftest import gateway, serving
from tests.live.fakes import fake_stages
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import run_until_done

FINISHING = (fetch.handler, ingest.handler, refine.handler, align.handler, finalize.handler)
MakeRuntime = Callable[..., FakeRuntime]


@pytest.fixture
def make_runtime(settings: Settings) -> MakeRuntime:
    def make() -> FakeRuntime:
        quick = settings.model_copy(update={"retry_seconds": 0.001, "diarize": False})
        return FakeRuntime(quick, lambda _: "we met on monday", lambda _: "we met on Monday")

    return make


@pytest.fixture
def talk() -> Pcm:
    """Three utterances."""
    return np.concatenate(
        [speech("librivox_0870.flac"), speech("librivox_0880.flac"), speech("librivox_0930.flac")]
    )


@pytest.fixture
def calm_words(settings: Settings, talk: Pcm) -> list[str]:
    """What is heard where nothing goes wrong."""
    with serving(settings, fake_stages(settings)) as url, live_client(url) as client:
        client.start(options={"diarize": False})
        client.say(talk)
        client.command("end")
        client.rest()
        assert len(client.of("asr_final")) >= 3
        return client.words


def half(client: LiveClient, talk: Pcm) -> None:
    """Say a part that ends in the middle of an utterance, and wait for a final and for more that is stored."""
    client.say(talk[: 12 * RATE])
    while not client.of("asr_final") or client.of("ack")[-1]["stored"] < 10_000:
        client.receive()


def go_on(client: LiveClient, talk: Pcm, flow_id: str, after: int) -> None:
    ack = client.start(flowId=flow_id, after=after)
    assert ack["type"] == "ack", ack
    client.say(talk[ack["received"] * RATE // 1000 :])
    client.command("end")
    client.rest()


def seqs(*clients: LiveClient) -> list[int]:
    return [final["seq"] for client in clients for final in client.of("asr_final")]


def test_a_connection_that_is_lost_loses_and_doubles_no_word(
    settings: Settings, talk: Pcm, calm_words: list[str]
) -> None:
    with serving(settings, fake_stages(settings)) as url:
        with live_client(url) as first:
            first.start(flowId="talk", options={"diarize": False})
            half(first, talk)
        with live_client(url) as second:
            go_on(second, talk, "talk", after=seqs(first)[-1])
    assert seqs(first, second) == list(range(1, len(seqs(first, second)) + 1))
    assert first.words + second.words == calm_words


def test_a_gateway_that_is_killed_loses_and_doubles_no_word(
    settings: Settings, talk: Pcm, calm_words: list[str]
) -> None:
    with gateway(settings) as (url, process), live_client(url) as first:
        first.start(flowId="talk", options={"diarize": False})
        half(first, talk)
        process.kill()
        process.wait()
        first.rest()
    with serving(settings, fake_stages(settings)) as url, live_client(url) as second:
        go_on(second, talk, "talk", after=max(seqs(first)))
    assert seqs(first, second) == list(range(1, len(seqs(first, second)) + 1))
    assert len(first.words + second.words) == pytest.approx(len(calm_words), abs=2)
    assert first.words + second.words == calm_words


def test_a_session_that_nobody_goes_on_with_ends_with_all_that_was_stored(
    settings: Settings, sessions: Sessions, talk: Pcm, make_runtime: MakeRuntime
) -> None:
    with gateway(settings) as (url, process), live_client(url) as client:
        job_id = uuid.UUID(client.start(options={"diarize": False})["job_id"])
        half(client, talk)
        process.kill()
        process.wait()
        stored = max(ack["stored"] for ack in client.of("ack")) / 1000
    runtime = make_runtime()
    with sessions.begin() as session:
        # what a minute without a sign of life does
        due = update(Step).where(Step.kind == StepKind.FETCH).values(run_after=func.now())
        assert session.scalar(due.returning(Step.id)) is not None
    run_until_done(runtime, FINISHING)
    with sessions() as session:
        job = session.get_one(Job, job_id)
        assert job.status == JobStatus.COMPLETED, job.error_message
        assert job.duration == pytest.approx(stored, abs=2.1)
        ends = session.scalars(select(Chunk.end).where(Chunk.job_id == job_id)).all()
        assert max(ends) >= stored - 1.0
        assert session.scalars(select(LiveSession)).all() == []
    left = [key.rpartition("/")[2] for key, _ in runtime.storage.list(f"jobs/{job_id}/live/")]
    # killed between a piece and its row, the gateway leaves an object that only the sweep knows
    assert [name for name in left if int(name.partition("-")[0]) < stored * RATE] == []


def test_the_job_of_a_session_has_its_recording_and_is_transcribed_like_any_other(
    settings: Settings, sessions: Sessions, live_url: str, talk: Pcm, make_runtime: MakeRuntime
) -> None:
    with live_client(live_url) as client:
        job_id = uuid.UUID(client.start(flowId="meeting", options={"diarize": False})["job_id"])
        client.say(talk)
        client.command("end")
        client.rest()
    runtime = make_runtime()
    # what is larger than an upload may be has been spoken all the same
    runtime.settings = runtime.settings.model_copy(update={"max_upload_bytes": 1000})
    run_until_done(runtime, FINISHING)
    with sessions() as session:
        job = session.get_one(Job, job_id)
        assert (job.status, job.filename, job.source_url) == (JobStatus.COMPLETED, "meeting.ogg", "live:meeting")
        assert job.duration == pytest.approx(len(talk) / RATE, abs=0.1)
        chunks = session.scalars(select(Chunk).where(Chunk.job_id == job_id).order_by(Chunk.index)).all()
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert all(before.end <= after.start for before, after in pairwise(chunks))
    recording = runtime.storage.get(job.source_key)
    assert recording[:4] == b"OggS"
    assert len(recording) < 6_000 * len(talk) / RATE


def test_what_was_said_in_a_cancelled_session_goes_with_its_audio(
    sessions: Sessions, live_url: str, talk: Pcm, make_runtime: MakeRuntime
) -> None:
    with live_client(live_url) as client:
        job_id = uuid.UUID(client.start(options={"diarize": False})["job_id"])
        client.say(talk[: 4 * RATE])
        client.command("flush")
        client.wait("asr_final")
        with job_transaction(sessions, job_id) as tx:
            cancel(tx)
    runtime = make_runtime()
    change_job(runtime, job_id, retention._hide_audio)
    retention.erase_expired(runtime)
    with sessions() as session:
        assert session.get_one(Job, job_id).audio_erased_at is not None
        assert session.scalars(select(LiveFinal)).all() == []
    assert [*runtime.storage.list(f"jobs/{job_id}/")] == []


@pytest.mark.parametrize("retried", ["while it lasts", "once it has ended"])
def test_a_session_outlives_the_failure_of_its_job(
    settings: Settings,
    sessions: Sessions,
    live_url: str,
    talk: Pcm,
    calm_words: list[str],
    make_runtime: MakeRuntime,
    retried: str,
) -> None:
    with live_client(live_url) as first:
        job_id = uuid.UUID(first.start(flowId="talk", options={"diarize": False})["job_id"])
        half(first, talk)
        with job_transaction(sessions, job_id) as tx:
            jobs.fail(tx, "step_failed", "a chunk was set aside")
    with live_client(live_url) as second:
        if retried == "while it lasts":
            second.start(flowId="talk", after=seqs(first)[-1])
            second.say(talk[second.events[0]["received"] * RATE // 1000 :][: 8 * RATE])
            while len(seqs(first, second)) < 2:
                second.receive()
            with job_transaction(sessions, job_id) as tx:
                retry_job(tx)
            due = select(Step.run_after > func.now()).where(Step.job_id == job_id, Step.kind == StepKind.FETCH)
            with sessions() as session:
                assert session.scalar(due)
    with serving(settings, fake_stages(settings)) as other, live_client(other) as third:
        go_on(third, talk, "talk", after=seqs(first, second)[-1])
    assert seqs(first, second, third) == list(range(1, len(seqs(first, second, third)) + 1))
    assert first.words + second.words + third.words == calm_words
    if retried == "once it has ended":
        with job_transaction(sessions, job_id) as tx:
            assert tx.job.status == JobStatus.FAILED
            retry_job(tx)
    run_until_done(make_runtime(), FINISHING)
    with sessions() as session:
        job = session.get_one(Job, job_id)
        assert (job.status, job.degraded) == (JobStatus.COMPLETED, False)
        assert job.final == job.chunks > 0
        assert job.duration == pytest.approx(len(talk) / RATE, abs=0.1)
        chunks = session.scalars(select(Chunk).where(Chunk.job_id == job_id).order_by(Chunk.index)).all()
    assert all(before.end <= after.start for before, after in pairwise(chunks))
    assert chunks[-1].end == pytest.approx(len(talk) / RATE - 1.0, abs=0.5)


class DyingRecognizer:
    """Its first sessions die in the middle of an utterance."""

    def __init__(self, inner: Recognizer, deaths: int) -> None:
        self._inner, self._deaths = inner, deaths

    async def open(self, start: AsrStart) -> AsrSession:
        session = await self._inner.open(start)
        if self._deaths:
            self._deaths -= 1
            return DyingSession(session)
        return session

    async def close(self) -> None:
        await self._inner.close()


class DyingSession:
    def __init__(self, inner: AsrSession) -> None:
        self._inner, self._frames = inner, 60

    async def send(self, frame: AudioFrame) -> None:
        self._frames -= 1
        if self._frames < 0:
            raise StageDead("killed")
        await self._inner.send(frame)

    async def end_utterance(self) -> None:
        await self._inner.end_utterance()

    async def events(self) -> AsyncIterator[AsrEvent]:
        async for event in self._inner.events():
            yield event

    async def close(self) -> None:
        await self._inner.close()

    async def abort(self) -> None:
        await self._inner.abort()


def test_asr_that_dies_in_the_middle_of_an_utterance_loses_no_word(
    settings: Settings, talk: Pcm, calm_words: list[str]
) -> None:
    stages = fake_stages(settings)
    dying = Stages(stages.vad, DyingRecognizer(stages.asr, deaths=1))
    with serving(settings, dying) as url, live_client(url) as client:
        client.start(options={"diarize": False})
        client.say(talk, speed=20)
        client.command("end")
        client.rest()
    assert client.of("error") == []
    assert client.words == calm_words


def test_where_asr_has_no_room_the_recording_goes_on_and_is_transcribed_later(
    settings: Settings, sessions: Sessions, talk: Pcm, make_runtime: MakeRuntime
) -> None:
    with serving(settings, fake_stages(settings, sessions=0)) as url, live_client(url) as client:
        job_id = uuid.UUID(client.start(options={"diarize": False})["job_id"])
        client.say(talk)
        client.command("end")
        client.rest()
    (busy,) = client.of("error")
    assert (busy["code"], busy["fatal"]) == ("asr_busy", False)
    assert client.of("metrics")[0]["left_to_the_queue"] == 3
    assert client.of("record_url")[0]["url"].endswith(f"/v1/jobs/{job_id}/audio")
    assert client.words == []
    run_until_done(make_runtime(), FINISHING)
    with sessions() as session:
        job = session.get_one(Job, job_id)
        assert job.status == JobStatus.COMPLETED
        assert job.final == job.chunks > 0


def test_storage_that_is_away_for_a_while_loses_nothing(settings: Settings, sessions: Sessions, talk: Pcm) -> None:
    with serving(settings, fake_stages(settings)) as url, live_client(url) as client:
        client.start(options={"diarize": False})
        client.say(talk[: 4 * RATE])
        with sessions.begin() as session:
            # nobody else can write a piece: those that come wait for it
            session.execute(select(LiveSession).with_for_update()).all()
            client.say(talk[4 * RATE :])
        client.command("end")
        client.rest()
    assert client.close_code == 1000
    with sessions() as session:
        assert session.scalar(select(func.sum(LivePiece.samples))) == len(talk)
