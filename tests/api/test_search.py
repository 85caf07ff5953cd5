"""Searching all transcripts of a tenant."""

from __future__ import annotations

import json
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import case, delete, func, select, update
from sqlalchemy.exc import OperationalError

from api.app import create_app
from api.routes.search import AT_ONCE
from db.erasure import persons
from db.models import Chunk, Job, JobStatus, Passage, SegmentSource, StoredSegment, StoredSpeaker
from db.models.search import FINE
from db.queue.transaction import job_transaction
from db.search.lexemes import mark
from db.search.rebuild import rebuild
from db.search.refresh import refresh
from db.session import Sessions, make_sessions
from db.settings import ApiKey, Settings
from tests.api.conftest import serving
from tests.conftest import Servers, fresh
from tests.jobs import make_job

MONDAY, TUESDAY = datetime(2026, 3, 2, 9, tzinfo=UTC), datetime(2026, 3, 3, 9, tzinfo=UTC)


def add_transcript(sessions: Sessions, texts: Sequence[str], *, language: str = "en", **values: Any) -> uuid.UUID:
    """A completed job of ten-second segments, one a chunk, said by SPEAKER_00 and SPEAKER_01 in turn."""
    job_id = make_job(sessions, **values)
    with job_transaction(sessions, job_id) as tx:
        tx.session.add(StoredSpeaker(job_id=job_id, label="SPEAKER_00", name="Ada", vector=[0.0]))
        for index, text in enumerate(texts):
            start = 10.0 * index
            tx.session.add(Chunk(job_id=job_id, index=index, start=start, end=start + 10, key=f"c{index}"))
            tx.session.flush()
            parts = text.split(" ")
            words = [
                {"text": part, "start": start + n, "end": start + n + 0.5, "confidence": 0.9}
                for n, part in enumerate(parts)
            ]
            tx.session.add(
                StoredSegment(
                    job_id=job_id, index=100 * index, chunk=index, start=start, end=start + 10, text=text,
                    speaker=f"SPEAKER_{index % 2:02d}", language=language, confidence=0.9,
                    source=SegmentSource.REFINED, words=words,
                )
            )  # fmt: skip
        tx.skip_open_steps()
        tx.job.chunks = len(texts)
        tx.job.status, tx.job.transcript_prefix, tx.job.duration = JobStatus.COMPLETED, f"jobs/{job_id}/x/", 30.0
        refresh(tx.session, tx.job, range(len(texts)))
    return job_id


@pytest.fixture(scope="module")
def library(servers: Servers, template: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Transcripts that the tests below only read."""
    with fresh(servers, template, Path(tmp_path_factory.mktemp("library"))) as settings:
        sessions = make_sessions(settings, name="test")
        add_transcript(
            sessions,
            [
                "Good morning, the budget for the café is small.",
                "The small budget: we need the budget again.",
                "Kubernetes clusters are not in the plan.",
            ],
            filename="monday.flac", created_at=MONDAY, options={"source": "board"},
        )  # fmt: skip
        add_transcript(
            sessions,
            ["Nobody spoke of a budget today.", "What's the state-of-the-art?", "Teh end, budgetary or not."],
            filename="tuesday.flac", created_at=TUESDAY,
        )  # fmt: skip
        add_transcript(sessions, ["我们在会议室开会讨论预算。", "山水画很美。"], language="zh", created_at=TUESDAY)
        add_transcript(sessions, ["The budget of somebody else."], tenant="globex")
        gone = add_transcript(sessions, ["The budget of a job that is being deleted."])
        with job_transaction(sessions, gone) as tx:
            tx.job.deleted_at = func.now()
        sessions.kw["bind"].dispose()
        yield settings


@pytest.fixture(scope="module")
def reader(library: Settings) -> Iterator[httpx.Client]:
    keys: dict[str, str | ApiKey] = {"key": ApiKey(tenant="default"), "theirs": ApiKey(tenant="globex")}
    with serving(create_app(library.model_copy(update={"api_keys": keys})), library) as client:
        client.headers["Authorization"] = "Bearer key"
        yield client


def search(client: httpx.Client, q: str, **params: Any) -> list[dict[str, Any]]:
    answer = client.get("/v1/search", params={"q": q, **params})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


def texts(client: httpx.Client, q: str, **params: Any) -> list[str]:
    return [hit["text"] for hit in search(client, q, **params) if hit["exact"]]


@pytest.mark.parametrize("chunks", [1000, 1])
@pytest.mark.parametrize(
    ("q", "beginnings"),
    [
        ("budget", ["The small", "Good morning", "Nobody spoke"]),
        ("BUDGET cafe", ["Good morning"]),
        ('"small budget"', ["The small"]),
        ("budget -small", ["Nobody spoke"]),
        ("bud*", ["The small", "Good morning", "Nobody spoke", "Teh end"]),
        ("state-of-the-art", ["What's the"]),
        ("what's", ["What's the"]),
        ("会议室", ["我们在"]),
        ("开会", ["我们在"]),
        ("水", ["山水画"]),
        ("议会", []),
        ("'", []),
    ],
)
def test_what_is_found(
    reader: httpx.Client, monkeypatch: pytest.MonkeyPatch, q: str, beginnings: list[str], chunks: int
) -> None:
    """In recordings that are read through, and in those that the index tells."""
    monkeypatch.setattr("db.search.find.NEAR_CHUNKS", chunks)
    monkeypatch.setattr("db.search.find.FAR_CHUNKS", chunks)
    if q == "'":
        assert reader.get("/v1/search", params={"q": q}).json()["code"] == "invalid_query"
        return
    found = texts(reader, q)
    assert len(found) == len(beginnings), found
    assert all(any(text.startswith(beginning) for text in found) for beginning in beginnings), found


def test_the_best_comes_first(reader: httpx.Client) -> None:
    assert texts(reader, "budget")[0].startswith("The small budget")


@pytest.mark.parametrize("chunks", [1000, 1])
def test_of_what_is_common_the_newest_are_found(
    reader: httpx.Client, monkeypatch: pytest.MonkeyPatch, chunks: int
) -> None:
    monkeypatch.setattr("db.search.find.NEAR_CHUNKS", chunks)
    monkeypatch.setattr("db.search.find.FAR_CHUNKS", chunks)
    monkeypatch.setattr("db.search.find.MOST_RANKED", 2)
    assert {text[:6] for text in texts(reader, "budget")} == {"Nobody", "Good m"}


def test_recordings_without_a_transcript_hide_none(
    client: httpx.Client, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.search.find.MOST_RECORDINGS", 3)
    monkeypatch.setattr("db.search.find.MOST_READ", 1)
    for at in (MONDAY, TUESDAY):
        add_transcript(sessions, ["The budget."], created_at=at, options={"source": "board"})
    for _ in range(3):
        make_job(sessions, options={"source": "board"})
    assert len(texts(client, "budget")) == 2
    monkeypatch.setattr("db.search.find.FEW_RECORDINGS", 1)
    assert len(texts(client, "budget", source="board")) == 2


def test_what_was_corrected_lately_is_among_the_newest(
    client: httpx.Client, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("NEAR_CHUNKS", "FAR_CHUNKS", "MOST_RANKED"):
        monkeypatch.setattr(f"db.search.find.{limit}", 2)
    add_transcript(sessions, ["An old budget.", "Another old budget."], created_at=MONDAY)
    newest = add_transcript(sessions, ["The corrected budget.", "The end."], created_at=TUESDAY)
    with sessions.begin() as session:
        later = case(((Passage.job_id == newest) & (Passage.index == 0), 20), else_=10)
        session.execute(update(Passage).values(number=Passage.number + later * 2**FINE))
    assert "The corrected budget." in texts(client, "budget")


def test_a_hit_says_where_it_is(reader: httpx.Client) -> None:
    (hit,) = search(reader, '"for the cafe"')
    assert hit["filename"] == "monday.flac"
    assert (hit["index"], hit["chunk"], hit["start"], hit["end"]) == (0, 0, 0.0, 10.0)
    assert [hit["text"][start:end] for start, end in hit["highlights"]] == ["for the café"]
    assert hit["play_from"] == 4.0
    assert (hit["speaker"], hit["speaker_name"], hit["language"]) == ("SPEAKER_00", "Ada", "en")
    assert (hit["exact"], hit["provisional"]) == (True, False)
    assert datetime.fromisoformat(hit["created_at"]) == MONDAY


@pytest.mark.parametrize(
    ("params", "count"),
    [
        ({"speaker": "Ada"}, 2),
        ({"speaker": "SPEAKER_01"}, 1),
        ({"speaker": "Bob"}, 0),
        ({"from": "2026-03-03"}, 1),
        ({"to": "2026-03-02"}, 2),
        ({"from": "2026-03-02", "to": "2026-03-03"}, 3),
        ({"source": "board"}, 2),
        ({"language": "zh"}, 0),
    ],
)
def test_filters(reader: httpx.Client, params: dict[str, str], count: int) -> None:
    assert len(texts(reader, "budget", **params)) == count


@pytest.mark.parametrize(("q", "found"), [("kubernetis", "Kubernetes"), ("the", "Teh"), ("mornign", "morning")])
def test_other_spellings_follow(reader: httpx.Client, q: str, found: str) -> None:
    if q == "the":
        assert all(hit["exact"] for hit in search(reader, q))  # too short to be mistyped
        return
    (hit,) = search(reader, q)
    ((start, end),) = hit["highlights"]
    assert (hit["text"][start:end], hit["exact"]) == (found, False)


def test_pages_are_apart_and_complete(reader: httpx.Client) -> None:
    whole = [(hit["job_id"], hit["index"]) for hit in search(reader, "the small", limit=100)]
    found = []
    params: dict[str, str | int] = {"q": "the small", "limit": 1}
    while True:
        page = reader.get("/v1/search", params=params)
        found += [(hit["job_id"], hit["index"]) for hit in page.json()["data"]]
        if page.json()["next_cursor"] is None:
            break
        params["cursor"] = page.json()["next_cursor"]
    assert found == whole
    assert len(set(found)) == len(found) >= 2


def test_each_tenant_searches_its_own(reader: httpx.Client) -> None:
    theirs = reader.get("/v1/search", params={"q": "budget"}, headers={"Authorization": "Bearer theirs"}).json()
    assert [hit["text"] for hit in theirs["data"]] == ["The budget of somebody else."]
    assert not [text for text in texts(reader, "budget") if "else" in text]


def cursor(rank: object = "0.100", index: object = 0, at: datetime = MONDAY) -> str:
    place = [False, rank, at.isoformat(), str(uuid.uuid4()), index]
    return urlsafe_b64encode(json.dumps(place).encode()).decode()


WRONG_CURSORS = [
    *(cursor(rank=rank) for rank in ("1000", "-1", "NaN", "1e999999999", 0.1)),
    *(cursor(index=index) for index in (2**31, -(2**40), float("inf"), "0")),
    cursor(at=MONDAY.replace(tzinfo=None)),
    urlsafe_b64encode(b"[" * 15_000).decode(),
]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({}, "invalid_request"),
        ({"q": "…"}, "invalid_query"),
        ({"q": "-only"}, "invalid_query"),
        ({"q": "b*"}, "invalid_query"),
        ({"q": "word", "from": "yesterday"}, "invalid_request"),
        ({"q": "word", "cursor": "???"}, "invalid_cursor"),
        ({"q": "word", "cursor": "W10="}, "invalid_cursor"),
        *(({"q": "word", "cursor": wrong}, "invalid_cursor") for wrong in WRONG_CURSORS),
        ({"q": "word", "unknown": "1"}, "invalid_request"),
        ({"q": "a\x00b"}, "invalid_request"),
    ],
)
def test_what_cannot_be_asked(reader: httpx.Client, params: dict[str, str], code: str) -> None:
    answer = reader.get("/v1/search", params=params)
    assert (400 <= answer.status_code < 500, answer.json()["code"]) == (True, code)


def test_no_log_has_what_was_looked_for(
    reader: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def cancelled(*_: object, **__: object) -> None:
        raise OperationalError("SELECT", {}, Exception("at 'divorce'"))

    monkeypatch.setattr("api.routes.search.find", cancelled)
    answer = reader.get("/v1/search", params={"q": "divorce"})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "OperationalError at " in caplog.text
    assert "divorce" not in caplog.text


def test_searches_at_once_are_few(reader: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.routes.search.WAIT_SECONDS", 0.01)
    with AT_ONCE, AT_ONCE:
        answer = reader.get("/v1/search", params={"q": "budget"})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"
    assert texts(reader, "budget")


def test_changes_are_found_at_once(client: httpx.Client, sessions: Sessions) -> None:
    job_id = add_transcript(sessions, ["We met on Sunday.", "It rained all day."])
    other = add_transcript(sessions, ["Nothing to see."])
    segments = f"/v1/jobs/{job_id}/segments"

    client.patch(f"{segments}/0", json={"text": "We met on Monday."}).raise_for_status()
    assert texts(client, "sunday") == []
    assert texts(client, "monday") == ["We met on Monday."]
    client.patch(f"{segments}/0", json={"speaker": "Grace"}).raise_for_status()
    assert texts(client, "monday", speaker="Grace") == ["We met on Monday."]
    client.post(f"{segments}/0/revert", json={}).raise_for_status()
    assert texts(client, "sunday") == ["We met on Sunday."]
    client.post(f"{segments}/0/split", json={"at": 2}).raise_for_status()
    assert texts(client, "sunday") == ["on Sunday."]
    client.post(f"{segments}/1/merge", json={"next": 100}).raise_for_status()
    assert texts(client, "sunday") == texts(client, "rained") == ["on Sunday. It rained all day."]
    body = {"label": "Grace", "into": "SPEAKER_00"}
    client.post(f"/v1/jobs/{job_id}/speakers/merge", json=body).raise_for_status()
    assert texts(client, "sunday", speaker="Ada") == ["on Sunday. It rained all day."]
    with sessions() as session:
        assert session.scalar(select(func.count()).where(Passage.job_id == job_id)) == 2

    client.delete(f"/v1/jobs/{job_id}").raise_for_status()
    assert texts(client, "sunday") == []
    with job_transaction(sessions, other) as tx:
        persons.remove(tx, uuid.uuid4(), ["SPEAKER_00"], [0])
    assert texts(client, "nothing") == []
    with sessions() as session:
        kept = session.scalars(select(Passage.terms).where(Passage.job_id == other)).all()
    assert kept == [f"'{mark('default')}erased':1"]


def test_rows_come_back_and_go_with_their_job(client: httpx.Client, sessions: Sessions) -> None:
    job_id = add_transcript(sessions, ["Soon forgotten."])
    with sessions.begin() as session:
        session.execute(delete(Passage))
    assert texts(client, "forgotten") == []
    assert rebuild(sessions) == 1
    assert texts(client, "forgotten") == ["Soon forgotten."]
    with sessions.begin() as session:
        session.delete(session.get_one(Job, job_id))
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Passage)) == 0
