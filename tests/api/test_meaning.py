"""Searching transcripts by what they mean, with the real model and pgvector."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError

from api.app import create_app
from db.models import Job, JobStatus, Step, StepKind, StepState
from db.queue.transaction import job_transaction
from db.search import meanings
from db.session import make_sessions
from db.settings import ApiKey, Settings
from db.tenancy import TenantSessions
from db.tenant_role import ensure_tenant_role
from tasks import flow
from tasks.maintenance.meanings import read_more
from tasks.steps import index
from tests.api.conftest import serving
from tests.api.test_search import MONDAY, TUESDAY, add_transcript
from tests.conftest import Servers, fresh
from tests.jobs import steps_of
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import run_until_done

BOARD = [
    "Good morning, everybody, and thank you for coming.",
    "We have almost run out of money.",
    "The engineer will repair the bridge before winter.",
]
KITCHEN = ["My daughter is allergic to peanuts.", "Please water the flowers on Friday."]

ASKED = {
    "our funds are nearly exhausted": BOARD[1],
    "who fixes the crossing?": BOARD[2],
    "which food makes the child ill?": KITCHEN[0],
}
"""Questions that share no word with what answers them."""


@pytest.fixture(scope="module")
def runtime(
    servers: Servers, template: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FakeRuntime]:
    """Transcripts that were finished before anybody wanted to search them by meaning."""
    with fresh(servers, template, Path(tmp_path_factory.mktemp("meaning"))) as settings:
        made = FakeRuntime(
            settings.model_copy(update={"semantic_search": True, "retry_seconds": 0.001}),
            lambda _: "we met on monday",
            lambda _: "we met on Monday",
        )
        add_transcript(made.sessions, BOARD, created_at=MONDAY, options={"source": "board"})
        add_transcript(made.sessions, KITCHEN, created_at=TUESDAY)
        add_transcript(made.sessions, ["我们快没有钱了。"], language="zh")
        add_transcript(made.sessions, ["The funds of somebody else are nearly exhausted."], tenant="globex")
        for _ in range(2):
            meanings.create(settings.database_url)
        ensure_tenant_role(settings.database_url)
        read_more(made)
        run_until_done(made, [index.handler])
        yield made
        made.sessions.kw["bind"].dispose()


KEYS: dict[str, str | ApiKey] = {"key": ApiKey(tenant="default"), "theirs": ApiKey(tenant="globex")}


def client_of(settings: Settings, **changes: Any) -> Iterator[httpx.Client]:
    with serving(create_app(settings.model_copy(update={"api_keys": KEYS} | changes)), settings) as client:
        client.headers["Authorization"] = "Bearer key"
        yield client


@pytest.fixture(scope="module")
def reader(runtime: FakeRuntime) -> Iterator[httpx.Client]:
    yield from client_of(runtime.settings)


def found(client: httpx.Client, q: str, **params: Any) -> list[str]:
    answer = client.get("/v1/search", params={"q": q, "mode": "meaning", **params})
    assert answer.status_code == 200, answer.text
    return [hit["text"] for hit in answer.json()["data"]]


@pytest.fixture(params=[meanings.EXACT_CHUNKS, 0], ids=["compared", "by index"])
def _either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meanings, "EXACT_CHUNKS", request.param)


@pytest.mark.usefixtures("_either_way")
@pytest.mark.parametrize(("question", "answer"), ASKED.items())
def test_what_means_the_same_is_found_whatever_the_words(reader: httpx.Client, question: str, answer: str) -> None:
    assert found(reader, question)[0] == answer
    assert reader.get("/v1/search", params={"q": question}).json()["data"] == []


@pytest.mark.usefixtures("_either_way")
@pytest.mark.parametrize(
    ("params", "there"),
    [
        ({"speaker": "SPEAKER_01"}, True),
        ({"speaker": "Ada"}, False),
        ({"to": "2026-03-02"}, True),
        ({"from": "2026-03-03"}, False),
        ({"source": "board"}, True),
        ({"source": "kitchen"}, False),
        ({"language": "en"}, True),
        ({"language": "zh"}, False),
    ],
)
def test_filters(reader: httpx.Client, params: dict[str, str], there: bool) -> None:
    assert (BOARD[1] in found(reader, "our funds are nearly exhausted", **params)) is there


@pytest.mark.usefixtures("_either_way")
def test_each_tenant_finds_its_own(reader: httpx.Client, runtime: FakeRuntime) -> None:
    question = "our funds are nearly exhausted"
    assert not [each for each in found(reader, question) if "else" in each]
    theirs = reader.get(
        "/v1/search", params={"q": question, "mode": "meaning"}, headers={"Authorization": "Bearer theirs"}
    ).json()["data"]
    assert [hit["text"] for hit in theirs] == ["The funds of somebody else are nearly exhausted."]
    for_tenant = TenantSessions(runtime.sessions)
    count = text("SELECT count(*) FROM meanings")
    with for_tenant("globex")() as session:
        assert session.scalar(count) == 1
    with for_tenant("nobody")() as session:
        assert session.scalar(count) == 0
        with pytest.raises(ProgrammingError, match="permission denied"):
            session.execute(text("DELETE FROM meanings"))


def test_a_hit_has_the_shape_of_any(reader: httpx.Client) -> None:
    params: dict[str, str | int] = {"q": "who fixes the crossing?", "mode": "meaning", "limit": 1}
    page = reader.get("/v1/search", params=params).json()
    (hit,) = page["data"]
    assert (hit["highlights"], hit["exact"], hit["play_from"]) == ([], True, 20.0)
    assert (hit["index"], hit["speaker_name"], hit["provisional"]) == (200, "Ada", False)


def test_pages_are_apart_and_complete(reader: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meanings, "LEAST_ALIKE", 0.01)
    whole = found(reader, "the garden in winter", limit=100)
    params: dict[str, str | int] = {"q": "the garden in winter", "mode": "meaning", "limit": 1}
    pages = []
    while True:
        page = reader.get("/v1/search", params=params).json()
        pages += [hit["text"] for hit in page["data"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert pages == whole
    assert len(set(pages)) == len(pages) >= 2


def test_what_was_said_is_gone_at_once_and_what_is_said_now_soon(
    reader: httpx.Client, runtime: FakeRuntime
) -> None:
    said, corrected = "The ship sank in the storm.", "The ship reached the harbour safely."
    job_id = add_transcript(runtime.sessions, [said, "Nobody knew why."])
    read_more(runtime)
    run_until_done(runtime, [index.handler])
    assert found(reader, "a vessel went down in bad weather")[0] == said
    reader.patch(f"/v1/jobs/{job_id}/segments/0", json={"text": corrected}).raise_for_status()
    assert not {said, corrected} & set(found(reader, "a vessel went down in bad weather"))
    run_until_done(runtime, [index.handler])
    assert found(reader, "the boat arrived in port")[0] == corrected
    reader.delete(f"/v1/jobs/{job_id}").raise_for_status()
    assert corrected not in found(reader, "the boat arrived in port")


def test_what_changed_while_it_was_read_is_read_again(reader: httpx.Client, runtime: FakeRuntime) -> None:
    job_id = add_transcript(runtime.sessions, ["The king lost his crown."])
    with runtime.sessions() as session:
        read = meanings.unread(session, job_id)
    reader.patch(f"/v1/jobs/{job_id}/segments/0", json={"text": "The queen found a ring."}).raise_for_status()
    vectors = runtime.engines.meaning.embed([segment.text for segment in read]).tolist()
    with runtime.sessions.begin() as session:
        meanings.put(session, job_id, read, vectors)
    with runtime.sessions() as session:
        assert [segment.text for segment in meanings.unread(session, job_id)] == ["The queen found a ring."]
    reader.delete(f"/v1/jobs/{job_id}").raise_for_status()


def test_a_transcript_is_read_when_it_is_finished_and_fails_by_itself(
    runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tasks.flow.get_settings", lambda: runtime.settings)
    monkeypatch.setattr(index, "AT_ONCE", 1)
    job_id = add_transcript(runtime.sessions, BOARD, tenant="other")
    with job_transaction(runtime.sessions, job_id) as tx:
        flow.complete_job(tx, "jobs/x/", "en")
    without = FakeRuntime(runtime.settings.model_copy(update={"models_dir": tmp_path}), lambda _: "", lambda _: "")
    run_until_done(without, [index.handler])
    with runtime.sessions() as session:
        (step,) = session.scalars(select(Step).where(Step.job_id == job_id, Step.kind == StepKind.INDEX))
    assert (step.state, "longhand models pull" in str(step.error)) == (StepState.DEAD, True)
    with runtime.sessions() as session:
        assert session.get_one(Job, job_id).status == JobStatus.COMPLETED
    read_more(runtime)
    run_until_done(runtime, [index.handler])
    (step,) = steps_of(runtime.sessions, job_id, StepKind.INDEX)
    assert step.state == StepState.DONE
    assert step.result is not None
    assert step.result["segments"] == len(BOARD)


def refusal(client: httpx.Client) -> str:
    answer = client.get("/v1/search", params={"q": "anything", "mode": "meaning"})
    assert (answer.status_code, answer.json()["code"]) == (409, "semantic_search_unavailable")
    assert client.get("/v1/search", params={"q": "money"}).json()["data"], "words are found all the same"
    return str(answer.json()["detail"])


@pytest.mark.parametrize("wanted", [True, False])
def test_a_server_without_it_says_so(runtime: FakeRuntime, tmp_path: Path, wanted: bool) -> None:
    for client in client_of(runtime.settings, semantic_search=wanted, models_dir=tmp_path):
        assert client.get("/v1/server").json()["semantic_search"] is wanted
        assert ("longhand models pull minilm-l6" if wanted else "LONGHAND_SEMANTIC_SEARCH") in refusal(client)


def test_a_database_without_pgvector_says_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(meanings, "OLDEST", (999, 0))
    meanings.create(settings.database_url)
    monkeypatch.setattr(meanings, "CREATE_EXTENSION", "CREATE EXTENSION not_there")
    meanings.create(settings.database_url)
    assert ["there is no search by meaning" in record.message for record in caplog.records] == [True, True]
    sessions = make_sessions(settings, name="test")
    add_transcript(sessions, BOARD)
    wanted = settings.model_copy(update={"semantic_search": True})
    for client in client_of(wanted):
        assert "pgvector" in refusal(client)
    read_more(FakeRuntime(wanted, lambda _: "", lambda _: ""))
    with sessions() as session:
        assert session.scalar(select(Step).where(Step.kind == StepKind.INDEX)) is None
    sessions.kw["bind"].dispose()
