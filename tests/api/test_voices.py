from __future__ import annotations

import uuid

import httpx
import pytest
from sqlalchemy import select

from db.models import Chunk, Job, SegmentSource, StoredSegment, StoredSpeaker, StoredVoice, VoiceStatus
from db.objects.storage import Storage
from db.session import Sessions
from db.settings import Settings
from tests.api.test_jobs import problem
from tests.jobs import make_job


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


def test_where_a_voice_was_heard(client: httpx.Client, sessions: Sessions) -> None:
    """Its longest stretch in each recording that it was found in and that is still there."""
    ada = uuid.UUID(enrol(client).json()["id"])
    jobs = [make_job(sessions, filename=f"{number}.flac") for number in range(3)]
    with sessions.begin() as session:
        for job in jobs:
            session.add(Chunk(job_id=job, index=0, start=0, end=30, key="chunk"))
            session.add(StoredSpeaker(job_id=job, label="A", name="Ada", voice_id=ada, vector=[1.0]))
            session.flush()
            session.add_all(
                StoredSegment(
                    job_id=job,
                    index=index,
                    chunk=0,
                    start=index * 10,
                    end=index * 10 + seconds,
                    text=f"{index}",
                    speaker=speaker,
                    confidence=1,
                    source=SegmentSource.REFINED,
                    words=[],
                )
                for index, (speaker, seconds) in enumerate([("A", 2), ("B", 9), ("A", 4), ("A", 1)])
            )
    client.delete(f"/v1/jobs/{jobs[1]}")
    heard = client.get(f"/v1/voices/{ada}/heard").json()["data"]
    assert [found["filename"] for found in heard] == ["2.flac", "0.flac"]
    assert heard[0] == {"job_id": str(jobs[2]), "filename": "2.flac", "start": 20, "end": 24, "text": "2"}
    assert len(client.get(f"/v1/voices/{ada}/heard", params={"limit": 1}).json()["data"]) == 1
