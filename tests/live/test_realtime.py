"""OpenAI's own client, on ``/v1/realtime?intent=transcription``."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import openai
import pytest
from openai.resources.realtime.realtime import RealtimeConnection
from sqlalchemy import select
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from db.models import Job
from db.session import Sessions
from db.settings import Settings
from tests.live.clients import Pcm, live_client, speech
from tests.live.conftest import serving
from tests.live.fakes import fake_stages
from tests.live.test_stream import TEXT, resampled
from tests.waiting import LIMIT_SECONDS, until

RATE = 24_000
PREFIX = "conversation.item.input_audio_transcription"
NEWER = {
    "type": "transcription",
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": RATE},
            "transcription": {"model": "gpt-4o-transcribe", "language": "en"},
            "turn_detection": {"type": "server_vad", "silence_duration_ms": 500},
        }
    },
}
OLDER = {
    "input_audio_format": "pcm16",
    "input_audio_transcription": {"model": "whisper-1", "language": "en"},
    "turn_detection": {"type": "server_vad"},
}


@pytest.fixture(scope="module")
def talk() -> Pcm:
    return resampled(speech("librivox_0870.flac"), RATE)


def client_of(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url.replace('ws:', 'http:')}/v1", api_key="any", max_retries=0)


def append(connection: RealtimeConnection, pcm: Pcm, speed: float) -> None:
    size = RATE // 10
    for at in range(0, len(pcm), size):
        connection.input_audio_buffer.append(audio=base64.b64encode(pcm[at : at + size].tobytes()).decode())
        time.sleep(0.1 / speed)


def until_completed(connection: RealtimeConnection) -> Iterator[Mapping[str, Any]]:
    for event in connection:
        yield event.model_dump()
        if event.type == f"{PREFIX}.completed":
            return


@pytest.mark.parametrize("kind", ["session.update", "transcription_session.update"])
def test_openais_client_hears_words_as_they_become_certain(settings: Settings, talk: Pcm, kind: str) -> None:
    stages = None if kind == "session.update" else fake_stages(settings)
    with (
        serving(settings, stages) as url,
        client_of(url).realtime.connect(extra_query={"intent": "transcription"}) as connection,
    ):
        assert connection.recv().type == "session.created"
        wanted = NEWER if kind == "session.update" else OLDER
        connection.send({"type": kind, "session": wanted})  # type: ignore[arg-type]
        assert connection.recv().type == f"{kind}d"
        speaking = threading.Thread(target=append, args=(connection, talk, 2.0))
        speaking.start()
        events = list(until_completed(connection))
        speaking.join()
    *_, completed = events
    deltas = [event["delta"] for event in events if event["type"] == f"{PREFIX}.delta"]
    assert len(deltas) >= (1 if stages is None else 2)  # real engines may have much else to do
    assert "".join(deltas) == completed["transcript"]
    assert {event["item_id"] for event in events if "item_id" in event} == {completed["item_id"]}
    kinds = [event["type"] for event in events]
    order = ["speech_started", "speech_stopped", "committed"]
    assert [kinds.index(f"input_audio_buffer.{each}") for each in order] == sorted(
        kinds.index(f"input_audio_buffer.{each}") for each in order
    )
    if stages is None:
        assert TEXT in completed["transcript"]


def test_without_the_detection_of_turns_an_item_is_what_was_committed(settings: Settings, talk: Pcm) -> None:
    """However long nobody speaks between two of them."""
    wanted = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}
    impatient = settings.model_copy(update={"flush_idle_sec": 0.1, "live_resume_seconds": 0.2})
    with (
        serving(impatient, fake_stages(settings)) as url,
        client_of(url).realtime.connect(extra_query={"intent": "transcription"}) as connection,
    ):
        connection.recv()
        connection.session.update(session=wanted)  # type: ignore[arg-type]
        connection.recv()
        previous = None
        for part in (talk[: 4 * RATE], talk[4 * RATE :]):
            append(connection, part, speed=20)
            connection.input_audio_buffer.commit()
            events = list(until_completed(connection))
            (committed,) = [e for e in events if e["type"] == "input_audio_buffer.committed"]
            assert committed["previous_item_id"] == previous
            previous = committed["item_id"]
            time.sleep(1.0)
            assert events[-1]["item_id"] == previous
            assert events[-1]["transcript"] == "".join(
                e["delta"] for e in events if e["type"] == f"{PREFIX}.delta"
            )
            assert events[-1]["transcript"]


def test_a_session_that_another_client_goes_on_with_does_not_end(
    live_url: str, sessions: Sessions, talk: Pcm
) -> None:
    """Its name is that of the job's recording."""
    sound = json.dumps(
        {"type": "input_audio_buffer.append", "audio": base64.b64encode(talk[:RATE].tobytes()).decode()}
    )
    with connect(f"{live_url}/v1/realtime?intent=transcription") as first, live_client(live_url) as second:
        first.send(sound)
        with sessions() as session:
            name = until(lambda: session.scalar(select(Job.filename)))
        assert second.start(flowId=name, after=0)["type"] == "ack"
        with contextlib.suppress(ConnectionClosed):
            while True:
                first.recv(LIMIT_SECONDS)
        assert first.close_reason == "taken_up"
        second.command("end")
        assert second.rest()[-1]["reason"] == "ended"


def test_what_cannot_be_used_is_told_and_changes_nothing(live_url: str) -> None:
    with connect(f"{live_url}/v1/realtime?intent=transcription") as socket:

        def answer(event: object) -> Any:
            socket.send(event if isinstance(event, str) else json.dumps(event))
            return json.loads(socket.recv(LIMIT_SECONDS))

        socket.recv(LIMIT_SECONDS)
        bad: list[tuple[object, str]] = [
            ("no JSON", "invalid_event"),
            ({"type": "response.create"}, "unknown_event"),
            ({"type": "session.update", "session": 3}, "invalid_value"),
            (
                {"type": "session.update", "session": {"audio": {"input": {"format": {"rate": 1}}}}},
                "invalid_value",
            ),
            ({"type": "session.update", "session": {"input_audio_format": "g711_ulaw"}}, "unsupported_format"),
            ({"type": "input_audio_buffer.append", "audio": "%"}, "invalid_audio"),
            ({"type": "input_audio_buffer.append", "audio": "\N{SNOWMAN}"}, "invalid_audio"),
            ({"type": "input_audio_buffer.commit"}, "input_audio_buffer_commit_empty"),
        ]
        for event, code in bad:
            assert answer(event)["error"]["code"] == code
        assert answer({"type": "session.update", "session": NEWER})["type"] == "session.updated"
