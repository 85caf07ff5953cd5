"""A person corrects what the models wrote."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy import select

from db.models import Chunk, Job, JobStatus, SegmentSource, StoredSegment
from db.queue.transaction import job_transaction
from db.session import Sessions
from tests.jobs import make_job

WORDS = [
    {"text": text, "start": 1.0 + i, "end": 1.8 + i, "confidence": 0.7}
    for i, text in enumerate(["We", "met", "on", "Sunday."])
]


@pytest.fixture
def job_id(sessions: Sessions) -> uuid.UUID:
    """A completed job with two segments; its stored artifacts are gone, so that rows are read."""
    made = make_job(sessions)
    with job_transaction(sessions, made) as tx:
        tx.session.add(Chunk(job_id=made, index=0, start=0, end=30, key="c0"))
        tx.session.flush()
        for index in (0, 1):
            tx.session.add(
                StoredSegment(
                    job_id=made, index=index, chunk=0, start=1.0 + 10 * index, end=4.8 + 10 * index,
                    text="We met on Sunday.", speaker="SPEAKER_00", language="en", confidence=0.7,
                    source=SegmentSource.REFINED, words=WORDS,
                )
            )  # fmt: skip
        tx.job.status, tx.job.transcript_prefix, tx.job.duration = JobStatus.COMPLETED, f"jobs/{made}/old/", 30.0
    return made


def test_a_correction_replaces_the_text_everywhere(
    client: httpx.Client, sessions: Sessions, job_id: uuid.UUID
) -> None:
    answer = client.patch(f"/v1/jobs/{job_id}/segments/0", json={"text": "We first met on Monday, Ada."})
    assert answer.status_code == 200
    segment = answer.json()
    assert segment["text"] == "We first met on Monday, Ada."
    assert (segment["source"], segment["confidence"]) == ("human", 1)
    times = {word["text"]: (word["start"], word["end"]) for word in segment["words"]}
    assert (times["We"], times["met"], times["on"]) == ((1.0, 1.8), (2.0, 2.8), (3.0, 3.8))
    assert 1.8 <= times["first"][0] <= times["first"][1] <= 2.0
    assert times["Ada."][1] == pytest.approx(4.8)

    text = client.get(f"/v1/jobs/{job_id}/transcript?format=txt").text
    assert "We first met on Monday, Ada." in text
    with sessions() as session:
        row = session.get_one(StoredSegment, (job_id, 0))
    assert row.machine is not None
    assert (row.machine["text"], row.machine["source"]) == ("We met on Sunday.", "refined")
    with client.stream("GET", f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "1"}) as events:
        lines = events.iter_lines()
        while not (line := next(lines)).startswith("event: "):
            pass
        assert line == "event: segment.corrected"
        assert json.loads(next(lines).removeprefix("data: "))["index"] == 0


def test_the_machines_version_survives_a_second_correction(
    client: httpx.Client, sessions: Sessions, job_id: uuid.UUID
) -> None:
    for text in ("We met on Monday.", "They met on Monday."):
        assert client.patch(f"/v1/jobs/{job_id}/segments/0", json={"text": text}).status_code == 200
    assert client.patch(f"/v1/jobs/{job_id}/segments/0", json={"speaker": "Ada"}).json()["speaker"] == "Ada"
    with sessions() as session:
        row = session.get(StoredSegment, (job_id, 0))
    assert row is not None
    assert row.machine is not None
    assert (row.text, row.speaker, row.machine["text"]) == ("They met on Monday.", "Ada", "We met on Sunday.")


def test_corrections_at_once_lose_nothing(client: httpx.Client, sessions: Sessions, job_id: uuid.UUID) -> None:
    def correct(number: int) -> int:
        url, body = f"/v1/jobs/{job_id}/segments/{number % 2}", {"text": f"Correction {number}."}
        return client.patch(url, json=body).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(correct, range(24))) == {200}
    with sessions() as session:
        job = session.get_one(Job, job_id)
        rows = session.scalars(select(StoredSegment).where(StoredSegment.job_id == job_id)).all()
    assert job.event_seq == 25
    stored = client.get(f"/v1/jobs/{job_id}/transcript?format=txt").text
    for row in rows:
        assert row.text in stored


@pytest.mark.parametrize(
    ("index", "body", "status", "code"),
    [
        ("7", {"text": "x"}, 404, "segment_not_found"),
        ("0", {}, 422, "invalid_request"),
        ("0", {"text": "   "}, 422, "invalid_request"),
        ("0", {"start": 3}, 422, "invalid_request"),
        ("x", {"text": "x"}, 422, "invalid_request"),
    ],
)
def test_what_cannot_be_corrected(
    client: httpx.Client, job_id: uuid.UUID, index: str, body: dict[str, object], status: int, code: str
) -> None:
    answer = client.patch(f"/v1/jobs/{job_id}/segments/{index}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_an_unknown_job(client: httpx.Client) -> None:
    answer = client.patch(f"/v1/jobs/{uuid.uuid4()}/segments/0", json={"text": "x"})
    assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")
