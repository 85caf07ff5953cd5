from __future__ import annotations

import httpx
import pytest
from sqlalchemy import select

from db.models import Job, StoredVoice, VoiceStatus
from db.objects.storage import Storage
from db.session import Sessions
from db.settings import Settings
from tests.api.test_jobs import problem


def enrol(client: httpx.Client, name: str = "Ada", **fields: str) -> httpx.Response:
    return client.post("/v1/voices", files={"file": ("ada.wav", b"sound")}, data={"name": name, **fields})


def test_voices_are_enrolled_listed_renamed_and_deleted(
    client: httpx.Client, sessions: Sessions, settings: Settings
) -> None:
    answer = enrol(client, " Zoe ")
    assert answer.status_code == 202
    zoe = answer.json()
    assert answer.headers["location"] == f"/v1/voices/{zoe['id']}"
    assert (zoe["name"], zoe["status"], zoe["error"]) == ("Zoe", "pending", None)
    enrol(client, "Ada")
    assert [voice["name"] for voice in client.get("/v1/voices").json()["data"]] == ["Ada", "Zoe"]
    assert client.get("/v1/jobs").json()["data"] == [], "an enrolment is no job of the user's"
    with sessions.begin() as session:
        row = session.get_one(StoredVoice, zoe["id"])
        row.status, row.vector, row.seconds, row.model = VoiceStatus.READY, [1.0], 7.5, "campplus"
    renamed = client.patch(f"/v1/voices/{zoe['id']}", json={"name": "Zoë"}).json()
    assert (renamed["name"], renamed["status"], renamed["seconds"]) == ("Zoë", "ready", 7.5)
    assert "vector" not in renamed
    assert client.delete(f"/v1/voices/{zoe['id']}").status_code == 204
    assert problem(client.get(f"/v1/voices/{zoe['id']}"))["code"] == "voice_not_found"
    with sessions() as session:
        enrolments = session.scalars(select(Job).order_by(Job.created_at)).all()
        assert [job.deleted_at is not None for job in enrolments] == [True, False]
        assert session.scalar(select(StoredVoice.name)) == "Ada"
    assert len(list(Storage(settings).list(""))) == 2


def test_a_name_is_taken_once(client: httpx.Client, settings: Settings) -> None:
    enrol(client, "Ada")
    assert problem(enrol(client, "Ada"))["code"] == "voice_exists"
    other = enrol(client, "Bob").json()
    assert problem(client.patch(f"/v1/voices/{other['id']}", json={"name": "Ada"}))["code"] == "voice_exists"
    assert len(list(Storage(settings).list(""))) == 2, "what was refused leaves nothing"


@pytest.mark.parametrize(
    ("files", "data", "code"),
    [
        ({}, {"name": "Ada"}, "file_missing"),
        ({"file": ("x", b"")}, {"name": "Ada"}, "file_empty"),
        ({"file": ("x", b"y")}, {}, "invalid_request"),
        ({"file": ("x", b"y")}, {"name": "  "}, "invalid_request"),
        ({"file": ("x", b"y")}, {"name": "Ada", "language": "en"}, "invalid_request"),
    ],
)
def test_bad_enrolments(
    client: httpx.Client, settings: Settings, files: dict[str, tuple[str, bytes]], data: dict[str, str], code: str
) -> None:
    answer = client.post("/v1/voices", files=files or {"other": ("", b"")}, data=data)
    assert problem(answer)["code"] == code
    assert list(Storage(settings).list("")) == []


def test_voices_that_are_not_there(client: httpx.Client) -> None:
    for voice_id in ("x", "00000000-0000-0000-0000-000000000000"):
        assert problem(client.get(f"/v1/voices/{voice_id}"))["code"] == "voice_not_found"
        assert problem(client.delete(f"/v1/voices/{voice_id}"))["code"] == "voice_not_found"
