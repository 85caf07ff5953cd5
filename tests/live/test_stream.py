from __future__ import annotations

import contextlib
import io
import json
import socket
import uuid
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import av
import httpx
import numpy as np
import pytest
from pydantic import TypeAdapter
from sqlalchemy import select
from starlette.testclient import TestClient
from websockets.exceptions import ConnectionClosed

from api.access import tokens
from api.app import create_app
from api.routes.jobs import cancel
from db import jobs
from db.models import Chunk, Job, JobStatus, LivePiece
from db.objects.storage import Storage
from db.queue.transaction import job_transaction
from db.session import Sessions
from db.settings import Settings
from live import messages
from live.assembly import load_voice_detection
from live.inprocess.detection import InProcessVadSession
from live.stages import StageDead, Stages
from speech.engines import Samples, VoiceDetector
from tests.live.clients import RATE, LiveClient, Pcm, live_client, speech
from tests.live.conftest import serving
from tests.live.fakes import fake_stages
from tests.media import DATA
from tests.waiting import until

TEXT = "Dashwood had then leisure to consider"


@pytest.fixture(scope="module")
def talk() -> Pcm:
    return speech("librivox_0870.flac")


def test_real_speech_comes_back_while_it_is_spoken(settings: Settings, talk: Pcm) -> None:
    # time enough for a partial however busy the machine is
    patient = settings.model_copy(update={"flush_idle_sec": 8.0})
    with serving(patient) as url:
        with live_client(url) as client:
            client.start(flowId="talk", hints={"user_lang_pref": "en-GB"})
            client.say(talk[: 3 * RATE], speed=2.0)
            client.wait("asr_partial")
            client.say(talk[3 * RATE :], speed=2.0)
            client.command("end")
            client.rest()
        check_partials(client)
        text = " ".join(final["text"] for final in client.of("asr_final"))
        assert TEXT in text
        assert client.close_code == 1000
        published = TypeAdapter(messages.Outgoing)
        assert [published.validate_python(event, extra="forbid") for event in client.events]
        kinds = [event["type"] for event in client.events]
        assert (kinds[0], kinds[-3:]) == ("ack", ["record_url", "metrics", "end"])
        with live_client(url, "/ws/stream?sr=24000") as simple:
            simple.say(resampled(talk, 24_000), speed=4.0, rate=24_000)
            simple.command("flush")
            events = simple.rest()
        assert [event for event in events[:-1] if set(event) != {"partial"}] == []
        assert TEXT in events[-1]["final"]
        hear_browsers(url, talk)


def hear_browsers(url: str, talk: Pcm) -> None:
    """What MediaRecorder makes, cut anywhere; and what begins like it and is nothing."""
    for codec, container in (("webm", "webm"), ("opus", "ogg")):
        with live_client(url) as client:
            client.start(audio={"codec": codec}, hints={"user_lang_pref": "en"})
            data = encoded(talk, container)
            for at in range(0, len(data), 997):
                client.socket.send(data[at : at + 997])
            client.command("end")
            client.rest()
        assert TEXT in " ".join(final["text"] for final in client.of("asr_final")), codec
    with live_client(url) as client:
        client.start(audio={"codec": "webm"})
        for _ in range(20):
            client.socket.send(b"\x1aE\xdf\xa3 but nothing of the kind" * 100)
        client.command("end")
        client.rest()
    assert (client.close_code, client.close_reason) == (1011, "audio_unreadable")


def check_partials(client: LiveClient) -> None:
    """What was stable of an utterance only grew, and its final begins with it."""
    stable: dict[int, str] = {}
    for event in client.events:
        if event["type"] == "asr_partial":
            assert event["stable"].startswith(stable.get(event["utterance"], ""))
            stable[event["utterance"]] = event["stable"]
        elif event["type"] == "asr_final":
            assert event["text"].startswith(stable.get(event["utterance"], ""))


def resampled(pcm: Pcm, rate: int) -> Pcm:
    frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate = RATE
    resampler = av.AudioResampler("s16", "mono", rate)
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([each.to_ndarray().reshape(-1) for each in frames]).astype(np.int16)


def encoded(pcm: Pcm, container: str) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream("libopus", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(resampled(pcm, 48_000).reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = 48_000
        fifo = av.AudioFifo()
        frame.pts = 0
        fifo.write(frame)
        for piece in fifo.read_many(960):
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def test_the_schemas_are_published_where_they_are_served(live_url: str) -> None:
    served = httpx.get(live_url.replace("ws:", "http:") + "/ws/stream/schemas").json()
    assert served == messages.schemas()
    assert served == json.loads((DATA.parents[1] / "docs" / "live.schemas.json").read_text())


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('{"type": "flush"}', "start_missing"),
        ("no JSON", "invalid_message"),
        ('{"type": "start", "audio": {"sr": 4000}}', "invalid_message"),
        ('{"type": "start", "options": {"nonsense": 1}}', "invalid_message"),
        ('{"type": "start", "flowId": "a/b"}', "invalid_message"),
        ('{"type": "start", "flowId": "talk", "after": 0}', "flow_unknown"),
    ],
)
def test_what_cannot_be_begun_closes_with_its_code(live_url: str, message: str, code: str) -> None:
    with live_client(live_url) as client:
        client.socket.send(message)
        (error,) = client.rest()
    assert (error["type"], error["code"], error["fatal"]) == ("error", code, True)
    assert (client.close_code, client.close_reason) == (1011, code)


def test_a_second_connection_takes_the_session_from_the_first(live_url: str, talk: Pcm) -> None:
    with live_client(live_url) as first, live_client(live_url) as second:
        first.start(flowId="talk")
        first.say(talk[: 2 * RATE])
        ack = second.start(flowId="talk", after=0)
        with contextlib.suppress(ConnectionClosed):
            first.say(talk)
        first.rest()
        assert (first.close_code, first.close_reason) == (1011, "taken_up")
        second.say(talk[ack["received"] * RATE // 1000 :])
        second.command("end")
        (metrics,) = [event for event in second.rest() if event["type"] == "metrics"]
    assert metrics["audio_seconds"] == pytest.approx(len(talk) / RATE, abs=0.01)


def test_finals_come_whatever_number_the_client_goes_on_from(live_url: str, talk: Pcm) -> None:
    with live_client(live_url) as first, live_client(live_url) as second:
        first.start(flowId="talk")
        second.start(flowId="talk", after=99)
        second.say(talk)
        second.command("end")
        second.rest()
    assert second.of("asr_final")[0]["seq"] == 1


class MortalVad:
    """Voice detection that dies when it is told to."""

    def __init__(self, settings: Settings) -> None:
        self._inner = load_voice_detection(settings)
        self.dead = False

    async def open(self, flow_id: str) -> MortalVadSession:
        return MortalVadSession(self, self._inner.stream())

    async def close(self) -> None:
        pass


class MortalVadSession(InProcessVadSession):
    def __init__(self, vad: MortalVad, detector: VoiceDetector) -> None:
        super().__init__(detector)
        self._vad = vad

    async def push(self, samples: Samples) -> Sequence[float]:
        if self._vad.dead:
            raise StageDead("killed")
        return await super().push(samples)


def test_a_stage_that_dies_while_nothing_comes_ends_the_connection(settings: Settings, talk: Pcm) -> None:
    quick = settings.model_copy(update={"flush_idle_sec": 0.5})
    vad = MortalVad(settings)
    with serving(quick, Stages(vad, fake_stages(settings).asr)) as url, live_client(url) as client:
        client.start(flowId="talk")
        vad.dead = True
        # too little to be looked at before a flush
        client.socket.send(talk[:320].tobytes())
        client.rest()
        assert (client.close_code, client.close_reason) == (1011, "stage_unavailable")
        vad.dead = False
        with live_client(url) as second:
            assert second.start(flowId="talk", after=0)["received"] == 20


def test_one_flow_is_one_session(live_url: str) -> None:
    with live_client(live_url) as first, live_client(live_url) as second:
        first.start(flowId="talk")
        assert second.start(flowId="talk")["code"] == "flow_in_use"


def test_sound_that_stops_is_final_after_three_seconds_and_the_session_goes_on(
    settings: Settings, talk: Pcm
) -> None:
    quick = settings.model_copy(update={"flush_idle_sec": 0.5})
    with serving(quick, fake_stages(settings)) as url, live_client(url) as client:
        client.start()
        client.say(talk[: 3 * RATE])
        assert client.wait("asr_final")["end"] == pytest.approx(3.0, abs=0.1)
        client.say(talk[3 * RATE :])
        client.command("flush")
        assert client.rest()[-1]["reason"] == "flushed"
    assert client.of("asr_final")[-1]["end"] > 6


def test_a_job_that_is_cancelled_ends_its_session_and_gets_no_more_objects(
    settings: Settings, sessions: Sessions, live_url: str, talk: Pcm
) -> None:
    storage = Storage(settings)
    with live_client(live_url) as client:
        job_id = uuid.UUID(client.start()["job_id"])
        client.say(talk[: 3 * RATE])
        with job_transaction(sessions, job_id) as tx:
            cancel(tx)
        with sessions() as session:
            counted = {*session.scalars(select(LivePiece.key)), *session.scalars(select(Chunk.key))}
        with contextlib.suppress(ConnectionClosed):
            client.say(talk[3 * RATE :])
        client.rest()
    assert (client.close_code, client.close_reason) == (1011, "session_over")
    assert {key for key, _ in storage.list(f"jobs/{job_id}/")} == counted


def test_the_name_of_a_session_whose_job_has_ended_is_free_again(sessions: Sessions, live_url: str) -> None:
    with live_client(live_url) as first:
        job_id = uuid.UUID(first.start(flowId="talk")["job_id"])
        first.command("end")
        first.rest()
    with job_transaction(sessions, job_id) as tx:
        jobs.fail(tx, "audio_empty", "it brought no sound")
    with live_client(live_url) as second:
        assert second.start(flowId="talk")["type"] == "ack"


def test_no_more_sessions_than_there_is_room_for(settings: Settings) -> None:
    few = settings.model_copy(update={"live_sessions": 1})
    with serving(few, fake_stages(settings)) as url:
        with live_client(url) as first, live_client(url) as second:
            first.start()
            assert second.start()["code"] == "live_sessions_full"
            first.command("end")
            first.rest()
        with live_client(url) as third:
            assert third.start()["type"] == "ack"


def test_many_that_come_at_once_get_no_more_room_either(settings: Settings) -> None:
    few = settings.model_copy(update={"live_sessions": 1})
    with serving(few, fake_stages(settings)) as url, contextlib.ExitStack() as open_clients:
        clients = [open_clients.enter_context(live_client(url)) for _ in range(8)]
        for client in clients:
            client.socket.send('{"type": "start"}')
        answers = [client.wait("ack", "error").get("code") for client in clients]
    assert sorted(answers, key=str) == [None, *["live_sessions_full"] * 7]


def test_options_and_the_queue_are_checked_as_elsewhere(settings: Settings, sessions: Sessions) -> None:
    full = settings.model_copy(update={"max_waiting_hours": 0})
    hurried = settings.model_copy(update={"tenant_requests_per_minute": 2})
    for changed, options, codes in (
        (settings, {"refine_model": "gpt"}, ["model_not_found"]),
        (full, {}, ["queue_full"]),
        (hurried, {}, [None, None, "quota_requests"]),
    ):
        with serving(changed, fake_stages(settings)) as url:
            for code in codes:
                with live_client(url) as client:
                    assert client.start(options=options).get("code") == code
    with sessions() as session:
        assert len(session.scalars(select(Job)).all()) == 2


@pytest.fixture
def guarded(settings: Settings) -> Iterator[str]:
    """A server that asks for a key."""
    keyed = settings.model_copy(update={"api_keys": {"secret": "acme"}, "live_origins": ["https://app.example"]})
    with serving(keyed, fake_stages(settings)) as url:
        yield url


def test_a_session_belongs_to_the_tenant_of_its_credential(
    guarded: str, sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    ways: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
        ({"path": "/ws/stream", "additional_headers": {"Authorization": "Bearer secret"}}, {}),
        ({"path": "/ws/stream?token=secret"}, {}),
        ({"path": "/ws/stream"}, {"auth": {"token": "secret"}}),
    )
    for connecting, starting in ways:
        with live_client(guarded, **connecting) as client:
            ack = client.start(**starting)
        with sessions() as session:
            job = session.get_one(Job, uuid.UUID(ack["job_id"]))
            assert (job.tenant, job.status) == ("acme", JobStatus.PROCESSING)
    assert "/ws/stream" in caplog.text
    assert "secret" not in caplog.text


def test_whoever_has_no_credential_gets_no_session(guarded: str, sessions: Sessions) -> None:
    for path, starting in (("/ws/stream", {}), ("/ws/stream", {"auth": {"token": "wrong"}})):
        with live_client(guarded, path) as client:
            assert client.start(**starting)["code"] == "unauthorized"
    with live_client(guarded, "/ws/stream?token=wrong") as client:
        client.rest()
        assert client.close_reason == "unauthorized"
    with sessions() as session:
        assert session.scalars(select(Job)).all() == []
    metrics = guarded.replace("ws:", "http:") + "/metrics"
    assert httpx.get(metrics).status_code == 401
    told = httpx.get(metrics, headers={"Authorization": "Bearer secret"}).text
    for name in ("orchestrator_active_sessions", "ingress_bytes_total", "egress_events_total", "asr_rtf_bucket"):
        assert name in told


def test_a_session_goes_on_after_its_token_has_expired(
    guarded: str, settings: Settings, talk: Pcm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "LEEWAY_SECONDS", 0)
    keyed = settings.model_copy(update={"api_keys": {"secret": "acme"}})
    with TestClient(create_app(keyed), headers={"Authorization": "Bearer secret"}) as api:
        token = api.post("/v1/tokens", json={"scopes": ["live"], "seconds": 1}).json()["token"]

    def answer() -> str | None:
        with live_client(guarded) as other:
            return other.start(auth={"token": token}).get("code")

    with live_client(guarded) as client:
        assert client.start(flowId="talk", auth={"token": token})["type"] == "ack"
        until(lambda: answer() == "token_expired", "the token has expired")
        client.say(talk)
        client.command("end")
        assert client.rest()[-1]["type"] == "end"
    assert client.of("asr_final")


def test_pages_of_other_sites_open_no_session(guarded: str, live_url: str) -> None:
    for url, origin, code in (
        (guarded, "https://evil.example", "origin_not_allowed"),
        (guarded, "https://app.example", None),
        (guarded, "http://127.0.0.1:8000", None),
        (guarded, "http://localhost:8000", None),
        (live_url, "https://evil.example", "origin_not_allowed"),
        (live_url, "http://[", "origin_not_allowed"),
        (live_url, "null", "origin_not_allowed"),
    ):
        with live_client(url, origin=origin) as client:
            assert client.start(auth={"token": "secret"}).get("code") == code, (url, origin)
    # a name of a stranger's that was made to lead here
    metrics = live_url.replace("ws:", "http:") + "/metrics"
    assert httpx.get(metrics).status_code == 200
    assert httpx.get(metrics, headers={"Host": "evil.example"}).status_code == 421
    address = urlsplit(live_url)
    there = socket.create_connection((address.hostname, address.port))
    with live_client("ws://evil.example", sock=there, origin="http://evil.example") as client:
        assert client.start()["code"] == "host_not_allowed"


def test_what_is_redacted_is_in_no_event(settings: Settings, talk: Pcm) -> None:
    redacting = settings.model_copy(update={"redact": ["phone"]})
    with serving(redacting, fake_stages(settings)) as url, live_client(url) as client:
        client.start()
        client.say(talk, speed=10)
        client.command("end")
        client.rest()
    assert client.of("asr_final")
    assert not client.of("asr_partial")
