"""Asking for erasures, their certificates, and what is answered where something was erased."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
from sqlalchemy import delete, select, update

from api.app import create_app
from db.models import Event, EventType, Job, Step, StepKind, StoredVoice
from db.queue.transaction import job_transaction
from db.session import Sessions
from db.settings import Settings
from tests.api.conftest import serving
from tests.filled import Filled, fill

KEY = "test-key"
NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    with serving(create_app(settings.model_copy(update={"api_keys": {KEY: "default"}})), settings) as opened:
        opened.headers["Authorization"] = f"Bearer {KEY}"
        yield opened


@pytest.fixture
def owned(sessions: Sessions) -> Filled:
    return fill(sessions, "default")


def test_a_deletion_is_certified_once_it_is_done(client: httpx.Client, owned: Filled) -> None:
    assert client.delete(f"/v1/jobs/{owned.running}").status_code == 204
    (erasure,) = client.get("/v1/erasures", params={"subject": str(owned.running)}).json()["data"]
    assert {
        name: erasure[name] for name in ("what", "reason", "requested_by", "status", "erased_at", "counts")
    } == {
        "what": "job",
        "reason": "deleted",
        "requested_by": "environment",
        "status": "pending",
        "erased_at": None,
        "counts": None,
    }
    assert client.get(f"/v1/erasures/{erasure['id']}").json() == erasure


def test_pages_of_erasures(client: httpx.Client, sessions: Sessions) -> None:
    made = [fill(sessions, "default").erasure for _ in range(3)]
    fill(sessions, "other")
    seen: list[str] = []
    cursor = None
    while True:
        page = client.get("/v1/erasures", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [erasure["id"] for erasure in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [str(erasure) for erasure in reversed(made)]
    assert client.get("/v1/erasures/nonsense").json()["code"] == "erasure_not_found"


def test_a_person_is_erased_by_a_step(client: httpx.Client, sessions: Sessions, owned: Filled) -> None:
    with sessions.begin() as session:
        session.execute(update(StoredVoice).values(status="ready", vector=[1.0], model="x"))
        name = session.get_one(StoredVoice, owned.voice).name
    for wanted in ({"name": name}, {"voice_id": str(owned.voice)}):
        answer = client.post("/v1/erasures", json=wanted | {"dry_run": True})
        assert answer.status_code == 202
        erasure = answer.json()
        assert (erasure["what"], erasure["subject"], erasure["dry_run"]) == ("person", str(owned.voice), True)
        assert answer.headers["Location"] == f"/v1/erasures/{erasure['id']}"
        with sessions() as session:
            job = session.get_one(Job, uuid.UUID(erasure["id"]))
            assert job.options == {"name": name, "voice_id": str(owned.voice), "similar": False}
            assert session.scalars(select(Step.kind).where(Step.job_id == job.id)).all() == [StepKind.ERASE]
        assert client.get(f"/v1/jobs/{job.id}").status_code == 404, "it is no transcription"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid_request"),
        ({"name": "Ada", "voice_id": str(uuid.uuid4())}, 422, "invalid_request"),
        ({"name": ""}, 422, "invalid_request"),
        ({"name": "Ada", "everything": True}, 422, "invalid_request"),
        ({"voice_id": str(uuid.uuid4())}, 404, "voice_not_found"),
        ({"name": "Ada", "similar": True}, 422, "voice_without_voiceprint"),
    ],
)
def test_bad_requests_are_refused(client: httpx.Client, body: dict[str, object], status: int, code: str) -> None:
    answer = client.post("/v1/erasures", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_voice_that_is_being_enrolled_is_waited_for(client: httpx.Client, owned: Filled) -> None:
    answer = client.post("/v1/erasures", json={"voice_id": str(owned.voice)})
    assert (answer.status_code, answer.json()["code"]) == (409, "voice_pending")


def test_an_erased_recording_is_gone_and_its_transcript_stays(
    client: httpx.Client, sessions: Sessions, owned: Filled
) -> None:
    with sessions.begin() as session:
        session.execute(update(Job).where(Job.id == owned.done).values(audio_erased_at=NOW))
        session.execute(update(Job).where(Job.id == owned.running).values(audio_erased_at=NOW, status="cancelled"))
    answer = client.get(f"/v1/jobs/{owned.done}/audio", follow_redirects=False)
    assert (answer.status_code, answer.json()["code"]) == (410, "audio_erased")
    assert client.get(f"/v1/jobs/{owned.done}").json()["audio"]["erased_at"] == "2026-01-02T00:00:00Z"
    assert client.get(f"/v1/jobs/{owned.done}/transcript").status_code == 200
    answer = client.post(f"/v1/jobs/{owned.running}/retry")
    assert (answer.status_code, answer.json()["code"]) == (410, "audio_erased")


def test_erased_events_are_not_passed_over_in_silence(
    client: httpx.Client, sessions: Sessions, owned: Filled
) -> None:
    with job_transaction(sessions, owned.done) as tx:
        tx.session.execute(delete(Event).where(Event.job_id == owned.done))
        tx.job.events_erased_at = NOW
        seen = tx.job.event_seq
        tx.emit(EventType.SEGMENT_CORRECTED, {"index": 0})
    url = f"/v1/jobs/{owned.done}/events"
    for after in (0, seen - 1):
        answer = client.get(url, params={"after": after})
        assert (answer.status_code, answer.json()["code"]) == (410, "events_erased")
    answer = client.get(url, params={"after": seen})
    assert answer.status_code == 200
    assert "segment.corrected" in answer.text
    assert client.get(url, params={"after": seen + 1}).status_code == 204
