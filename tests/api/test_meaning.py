"""Searching transcripts by what they mean, with the real model and pgvector."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import ProgrammingError

from api.app import create_app
from db.models import Job, JobStatus, Step, StepKind, StepState
from db.queue.transaction import job_transaction
from db.search import meanings
from db.search.filters import Filters
from db.search.rebuild import rebuild
from db.session import make_sessions
from db.settings import ApiKey, Settings
from db.tenancy import TenantSessions
from db.tenant_role import ensure_tenant_role
from tasks import flow
from tasks.maintenance.meanings import read_more
from tasks.step import run
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
    folder = Path(tmp_path_factory.mktemp("meaning"))
    with fresh(servers, template, folder) as settings, pytest.MonkeyPatch.context() as patched:
        settings = settings.model_copy(update={"semantic_search": True, "retry_seconds": 0.001})
        patched.setattr(meanings, "get_settings", lambda: settings)
        patched.setattr(meanings, "SETTLED", timedelta(0))
        patched.setattr(index, "AT_ONCE", 2)
        made = FakeRuntime(
            settings,
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


def test_a_server_that_has_it_says_so(reader: httpx.Client) -> None:
    assert reader.get("/v1/server").json()["semantic_search"] is True


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


def test_what_changes_while_it_is_read_is_read_again(
    reader: httpx.Client, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, corrected = ["The king.", "Nobody knew.", "He lost his crown."], "The queen found a ring."
    job_id = add_transcript(runtime.sessions, said)
    read_more(runtime)
    embed, texts = runtime.engines.meaning.embed, []

    def interrupted(portion: Sequence[str]) -> Any:
        texts.append(portion)
        if len(texts) == 2:  # the first two are kept by now
            reader.patch(f"/v1/jobs/{job_id}/segments/0", json={"text": corrected}).raise_for_status()
        return embed(portion)

    monkeypatch.setattr(runtime.engines.meaning, "embed", interrupted)
    monkeypatch.setattr(meanings, "SETTLED", timedelta(hours=1))
    assert run(index.handler, runtime)
    (step,) = steps_of(runtime.sessions, job_id, StepKind.INDEX)
    assert step.state == StepState.READY
    assert step.run_after is not None
    assert step.run_after - step.created_at > timedelta(minutes=59)
    monkeypatch.setattr(meanings, "SETTLED", timedelta(0))
    reader.patch(f"/v1/jobs/{job_id}/segments/0", json={"text": corrected}).raise_for_status()
    with runtime.sessions() as session:
        assert {segment.text for segment in meanings.unread(session, job_id)} == {corrected, said[2]}
    run_until_done(runtime, [index.handler])
    assert sorted(texts[2]) == sorted([corrected, said[2]])
    with runtime.sessions() as session:
        assert meanings.unread(session, job_id) == []
    reader.delete(f"/v1/jobs/{job_id}").raise_for_status()


def test_what_is_changed_by_machines_waits_for_its_turn(runtime: FakeRuntime) -> None:
    rebuild(runtime.sessions)
    with runtime.sessions() as session:
        left = select(Step).join(Job).where(Step.kind == StepKind.INDEX, Job.deleted_at.is_(None))
        assert session.scalar(left) is None
        assert len(meanings.jobs_to_read(session, 2)) == 2
        every = meanings.jobs_to_read(session, 100)
    read_more(runtime)
    with runtime.sessions() as session:
        assert meanings.jobs_to_read(session, len(every)) == []
        assert meanings.jobs_to_read(session, len(every) - 1) == []
    run_until_done(runtime, [index.handler])


def test_the_index_is_asked_where_there_is_much(runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    vector = runtime.engines.meaning.embed(["Nobody has any money."])[0].tolist()
    scans = text("SELECT pg_stat_get_xact_numscans('ix_meanings_vector'::regclass)")
    for chunks, by_index in ((meanings.EXACT_CHUNKS, False), (1, True)):
        monkeypatch.setattr(meanings, "EXACT_CHUNKS", chunks)
        with TenantSessions(runtime.sessions)("default")() as session:
            assert meanings.find(session, vector, Filters(), limit=1)[0].passage["text"] == BOARD[1]
            assert (session.scalar(scans) > 0) is by_index


def test_what_the_index_misses_is_found_in_the_newest_recordings(
    reader: httpx.Client, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where others speak of the same, the index ends among what is theirs."""
    alike = meanings._alike
    monkeypatch.setattr(meanings, "_alike", lambda *args: alike(*args) if len(args) == 5 else {})
    monkeypatch.setattr(meanings, "EXACT_CHUNKS", 2)
    assert found(reader, "which food makes the child ill?")[0] == KITCHEN[0]
    assert BOARD[1] not in found(reader, "our funds are nearly exhausted"), "which is older"


def test_what_the_model_cannot_read_is_refused(reader: httpx.Client, runtime: FakeRuntime) -> None:
    for q in ("ខ្ញុំស្រឡាញ់អ្នក", "🎉🎉🎉"):
        answer = reader.get("/v1/search", params={"q": q, "mode": "meaning"})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_query")
    assert runtime.engines.meaning.understands(["money", "", "Straßenbahn", "🎉🎉🎉 ok", "😀"]) == [
        True, False, True, False, False,
    ]  # fmt: skip


def test_a_transcript_is_read_when_it_is_finished_and_waits_for_the_model_alone(
    runtime: FakeRuntime, tmp_path: Path
) -> None:
    job_id = add_transcript(runtime.sessions, BOARD, tenant="other")
    with job_transaction(runtime.sessions, job_id) as tx:
        flow.complete_job(tx, "jobs/x/", "en")
    without = FakeRuntime(runtime.settings.model_copy(update={"models_dir": tmp_path}), lambda _: "", lambda _: "")
    assert run(index.handler, without)
    with runtime.sessions() as session:
        (step,) = session.scalars(select(Step).where(Step.job_id == job_id, Step.kind == StepKind.INDEX))
    assert (step.state, step.attempt, "longhand models pull" in str(step.error)) == (StepState.READY, 0, True)
    with runtime.sessions() as session:
        assert session.get_one(Job, job_id).status == JobStatus.COMPLETED
    with runtime.sessions.begin() as session:
        session.execute(update(Step).where(Step.id == step.id).values(run_after=func.now()))
    run_until_done(runtime, [index.handler])
    (step,) = steps_of(runtime.sessions, job_id, StepKind.INDEX)
    assert step.state == StepState.DONE
    assert step.result is not None
    assert step.result["segments"] == len(BOARD)


def test_where_it_is_not_wanted_any_more_nobody_reads(
    reader: httpx.Client, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = add_transcript(runtime.sessions, ["The king lost his crown."])
    read_more(runtime)
    monkeypatch.setattr(meanings, "get_settings", lambda: Settings(semantic_search=False))
    reader.patch(f"/v1/jobs/{job_id}/segments/0", json={"text": "The queen found a ring."}).raise_for_status()
    assert steps_of(runtime.sessions, job_id, StepKind.INDEX) == []
    reader.delete(f"/v1/jobs/{job_id}").raise_for_status()


def refusal(client: httpx.Client) -> str:
    answer = client.get("/v1/search", params={"q": "anything", "mode": "meaning"})
    assert (answer.status_code, answer.json()["code"]) == (409, "semantic_search_unavailable")
    assert client.get("/v1/search", params={"q": "money"}).json()["data"], "words are found all the same"
    return str(answer.json()["detail"])


@pytest.mark.parametrize("wanted", [True, False])
def test_a_server_without_it_says_so(runtime: FakeRuntime, tmp_path: Path, wanted: bool) -> None:
    for client in client_of(runtime.settings, semantic_search=wanted, models_dir=tmp_path):
        assert client.get("/v1/server").json()["semantic_search"] is False
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
        assert client.get("/v1/server").json()["semantic_search"] is False
    job_id = add_transcript(sessions, KITCHEN)
    without = FakeRuntime(wanted, lambda _: "", lambda _: "")
    read_more(without)
    assert steps_of(sessions, job_id, StepKind.INDEX) == []
    # one from before the table was dropped
    with job_transaction(sessions, job_id) as tx:
        tx.enqueue(StepKind.INDEX)
    run_until_done(without, [index.handler])
    (step,) = steps_of(sessions, job_id, StepKind.INDEX)
    assert (step.state, step.result) == (StepState.DONE, {"segments": 0})
    sessions.kw["bind"].dispose()
