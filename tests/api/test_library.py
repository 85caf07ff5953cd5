"""Titles, tags, collections, saved searches, and links to one transcript."""

from __future__ import annotations

import io
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import OperationalError

from api import guard, routes
from api.app import create_app
from api.archives import zipped
from api.dependencies import Services
from api.routes import jobs as jobs_routes
from api.transcript_archives import entries as entries_of
from db import library
from db.access import keys as stored_keys
from db.access import links
from db.models import AuditEntry, Job, JobStatus, Link, Priority, Scope, StoredKey
from db.queue.transaction import JobTransaction
from db.session import Sessions
from db.settings import ApiKey, Settings
from speech.text.formats import Format
from tests.api.conftest import serving
from tests.api.test_search import add_transcript
from tests.jobs import make_job
from tests.waiting import until


@pytest.fixture
def guarded(settings: Settings) -> Iterator[httpx.Client]:
    """A client of a server that asks for a key, which it sends."""
    keys: dict[str, str | ApiKey] = {"root": ApiKey(tenant="default")}
    with serving(create_app(settings.model_copy(update={"api_keys": keys})), settings) as client:
        client.headers["Authorization"] = "Bearer root"
        yield client


def test_titles_and_tags(client: httpx.Client, sessions: Sessions) -> None:
    job, other = (add_transcript(sessions, ["The plan."], filename=f"{n}.flac") for n in (1, 2))
    url = f"/v1/jobs/{job}"
    changed = client.patch(
        url, json={"title": " Board,  March ", "tags": ["board", "2026", "board"], "source": "s"}
    )
    assert changed.status_code == 200, changed.text
    assert (changed.json()["title"], changed.json()["tags"]) == ("Board, March", ["board", "2026"])
    assert changed.json()["options"]["source"] == "s"
    client.patch(f"/v1/jobs/{other}", json={"tags": ["board"]}).raise_for_status()
    kept = client.patch(url, json={"source": None}).json()
    assert (kept["title"], kept["options"]["source"]) == ("Board, March", None)

    def ids(**query: str) -> set[str]:
        return {found["id"] for found in client.get("/v1/jobs", params=query).json()["data"]}

    assert ids(tag="2026") == ids(q="march") == {str(job)}
    assert ids(tag="board") == {str(job), str(other)}
    assert client.get("/v1/tags").json()["data"] == [
        {"tag": "board", "recordings": 2},
        {"tag": "2026", "recordings": 1},
    ]
    hits = client.get("/v1/search", params={"q": "plan", "tag": "2026"}).json()["data"]
    assert [(hit["job_id"], hit["title"]) for hit in hits] == [(str(job), "Board, March")]
    name = client.get(f"{url}/transcript?format=srt").headers["Content-Disposition"]
    assert name == 'attachment; filename="Board, March.srt"'
    assert client.patch(url, json={"title": None, "tags": None}).json()["title"] is None
    assert ids(tag="2026") == set()


@pytest.mark.parametrize("body", [{}, {"title": ""}, {"tags": [" "]}, {"tags": ["x"] * 51}, {"filename": "x"}])
def test_what_no_recording_is_called(client: httpx.Client, sessions: Sessions, body: dict[str, object]) -> None:
    answer = client.patch(f"/v1/jobs/{add_transcript(sessions, [])}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_collection(client: httpx.Client, sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [add_transcript(sessions, [f"Part {n} of the plan."], filename="talk.mp3") for n in (1, 2)]
    theirs = add_transcript(sessions, ["Not yours."], tenant="globex")
    made = client.post("/v1/collections", json={"name": "Talks: all"})
    url = made.headers["Location"]
    assert (made.status_code, made.json()["recordings"]) == (201, 0)
    monkeypatch.setattr(library, "MOST_COLLECTIONS", 1)
    assert client.post("/v1/collections", json={"name": "More"}).json()["code"] == "too_many_collections"
    monkeypatch.setattr(library, "MOST_COLLECTIONS", 2)
    again = client.post("/v1/collections", json={"name": "Talks: all"})
    assert (again.status_code, again.json()["code"]) == (409, "collection_exists")

    def change(**members: list[uuid.UUID]) -> int:
        body = {name: [str(job) for job in given] for name, given in members.items()}
        return int(client.patch(f"{url}/jobs", json=body).raise_for_status().json()["recordings"])

    assert change(add=[*jobs, theirs, uuid.uuid4()]) == 2
    assert change(add=jobs[:1]) == 2
    collection = {"collection": made.json()["id"]}
    listed = client.get("/v1/jobs", params=collection).json()["data"]
    assert {job["id"] for job in listed} == {str(job) for job in jobs}
    add_transcript(sessions, ["The plan of somebody else."])
    assert len(client.get("/v1/search", params={"q": "plan"} | collection).json()["data"]) == 2

    answer = client.get(f"{url}/transcripts", params={"format": "srt"})
    assert answer.headers["Content-Disposition"] == 'attachment; filename="Talks_ all.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["talk (2).srt", "talk.srt"]
        assert b"Part 1 of the plan." in archive.read("talk.srt")

    monkeypatch.setattr(library, "MOST_EXPORTED", 1)
    answer = client.get(f"{url}/transcripts")
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_recordings")

    assert change(remove=jobs[:1]) == 1
    client.delete(f"/v1/jobs/{jobs[1]}").raise_for_status()
    assert client.patch(url, json={"name": "Fewer"}).json() | {"created_at": ""} == {
        **{"id": made.json()["id"], "name": "Fewer", "created_at": "", "recordings": 0}
    }
    assert [each["name"] for each in client.get("/v1/collections").json()["data"]] == ["Fewer"]
    client.delete(url).raise_for_status()
    assert client.get(url).json()["code"] == "collection_not_found"
    assert client.get(f"/v1/jobs/{jobs[0]}").status_code == 200


def test_many_at_once(client: httpx.Client, sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    done = [add_transcript(sessions, ["The plan."], filename=f"talk {n}.flac") for n in range(3)]
    other = add_transcript(sessions, ["Plaything."], filename="other.flac")
    failed = make_job(sessions, status=JobStatus.FAILED, error_code="no_audio", filename="broken.flac")
    theirs = add_transcript(sessions, ["The plan."], tenant="globex")

    def bulk(action: str, jobs: Sequence[uuid.UUID] | None = None, **wanted: Any) -> dict[str, str]:
        given = wanted if jobs is None else wanted | {"jobs": [str(job) for job in jobs]}
        answer = client.post("/v1/jobs/bulk", json={"action": action, **given})
        assert answer.status_code == 200, answer.text
        bulk.cursor = answer.json()["next_cursor"]  # type: ignore[attr-defined]
        return {
            each["job_id"]: each["error"]["code"] if each["error"] else each["outcome"]
            for each in answer.json()["results"]
        }

    def all_are(outcome: str, jobs: Sequence[uuid.UUID]) -> dict[str, str]:
        return {str(job): outcome for job in jobs}

    gone = uuid.uuid4()
    assert bulk("tag", [*done, theirs, gone], tags=["a", "b"]) == {
        **all_are("done", done),
        **all_are("job_not_found", [theirs, gone]),
    }
    assert bulk("tag", done, tags=["b"]) == all_are("unchanged", done), "to repeat it does no harm"
    assert bulk("untag", filter={"tag": "a"}, tags=["a"]) == all_are("done", done)
    assert client.get(f"/v1/jobs/{done[0]}").json()["tags"] == ["b"]
    assert bulk("tag", done[:1], tags=[str(n) for n in range(50)]) == all_are("too_many_tags", done[:1])

    collection = client.post("/v1/collections", json={"name": "Plans"}).json()["id"]
    saved = client.post("/v1/searches", json={"name": "Plan", "query": {"q": "plan"}}).json()["id"]
    assert bulk("collect", search=saved, collection=collection) == all_are("done", done)
    assert bulk("collect", done[:1], collection=collection) == all_are("unchanged", done[:1])
    assert bulk("take_out", done[:1], collection=collection) == all_are("done", done[:1])
    assert client.get(f"/v1/collections/{collection}").json()["recordings"] == 2

    zipped = client.post("/v1/jobs/bulk/transcripts", json={"search": saved, "format": "srt"})
    with zipfile.ZipFile(io.BytesIO(zipped.content)) as archive:
        assert sorted(archive.namelist()) == [f"talk {n}.srt" for n in range(3)]

    with sessions() as session:
        read = session.scalars(select(AuditEntry.target).where(AuditEntry.action == "bulk transcripts")).all()
    assert set(read) == {str(job) for job in done}

    assert bulk("retry", [failed, other]) == all_are("done", [failed]) | all_are("job_not_failed", [other])
    assert bulk("retry", [failed]) == all_are("unchanged", [failed])
    assert bulk("cancel", [failed, other]) == all_are("done", [failed]) | all_are("job_finished", [other])
    assert bulk("cancel", [failed]) == all_are("unchanged", [failed])

    monkeypatch.setattr(routes.bulk, "MOST_AT_ONCE", 2)
    named: dict[str, Any] = {"filter": {"q": "talk"}}
    assert len(bulk("delete", **named)) == 2
    assert len(bulk("delete", **named, cursor=bulk.cursor)) == 1  # type: ignore[attr-defined]
    assert bulk("delete", done) == all_are("unchanged", done)
    assert {job["id"] for job in client.get("/v1/jobs").json()["data"]} == {str(other), str(failed)}
    with sessions() as session:
        of_one = select(AuditEntry.action).where(AuditEntry.target == str(done[1])).order_by(AuditEntry.at)
        assert list(session.scalars(of_one)) == [
            f"bulk {a}" for a in ("tag", "untag", "collect", "transcripts", "delete")
        ]


def test_a_database_that_is_away_fails_each_for_itself(
    client: httpx.Client, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [make_job(sessions) for _ in range(7)]
    away, asked, announced = {made[1], *made[3:6]}, [], []

    def apply(services: Services, tenant: str, job_id: str, change: Any) -> JobTransaction:
        asked.append(job := uuid.UUID(job_id))
        if job in away:
            raise OperationalError("SELECT", {}, Exception("away"))
        return jobs_routes.apply(services, tenant, job_id, change)

    monkeypatch.setattr(routes.bulk, "apply", apply)
    monkeypatch.setattr(routes.bulk, "announce", lambda _, transaction: announced.append(transaction.job.id))
    wanted = {"action": "cancel", "jobs": [str(job) for job in made]}
    results = client.post("/v1/jobs/bulk", json=wanted).raise_for_status().json()["results"]
    outcomes = [each["error"]["code"] if each["error"] else each["outcome"] for each in results]
    assert outcomes == ["done", "unavailable", "done", *["unavailable"] * 4]
    assert asked == made[:6], "three in a row are enough"
    until(lambda: len(announced) == 2)
    assert announced == [made[0], made[2]]


def test_a_saved_search_that_takes_too_long_is_to_be_narrowed(
    client: httpx.Client, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.search.find.BY_INDEX", {"statement_timeout": "0.2s"})
    monkeypatch.setattr(
        "db.search.find._until", lambda recordings, _: recordings.where(func.pg_sleep(10).is_not(None))
    )
    add_transcript(sessions, ["The plan."])
    saved = client.post("/v1/searches", json={"name": "All", "query": {"q": "the"}}).json()["id"]
    answer = client.post("/v1/jobs/bulk", json={"action": "delete", "search": saved})
    assert (answer.status_code, answer.json()["code"]) == (409, "search_too_broad")


@pytest.mark.parametrize(
    "wanted",
    [
        {"action": "delete"},
        {"action": "delete", "filter": {}},
        {"action": "delete", "jobs": []},
        {"action": "tag", "filter": {"q": "x"}},
        {"action": "collect", "filter": {"q": "x"}},
        {"action": "delete", "filter": {"q": "x"}, "tags": ["x"]},
        {"action": "delete", "filter": {"q": "x"}, "search": str(uuid.uuid4())},
    ],
)
def test_what_is_not_done_to_many(client: httpx.Client, wanted: dict[str, Any]) -> None:
    answer = client.post("/v1/jobs/bulk", json=wanted)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_many_are_selected_by_who_may_read_them(guarded: httpx.Client, sessions: Sessions) -> None:
    job = add_transcript(sessions, ["The plan."])
    token = guarded.post("/v1/tokens", json={"scopes": ["jobs:write"]}).raise_for_status().json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    wanted = {"action": "tag", "tags": ["x"], "jobs": [str(job)]}
    assert guarded.post("/v1/jobs/bulk", json=wanted, headers=headers).status_code == 200
    del wanted["jobs"]
    refused = guarded.post("/v1/jobs/bulk", json=wanted | {"filter": {"q": "a"}}, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")


def test_a_search_is_kept(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    query = {"q": '"the plan" -draft', "from": "2026-03-01", "tag": "board"}
    saved = client.post("/v1/searches", json={"name": "Plans", "query": query})
    assert saved.status_code == 201, saved.text
    (listed,) = client.get("/v1/searches").json()["data"]
    assert {name: value for name, value in listed["query"].items() if value is not None} == query
    taken = client.post("/v1/searches", json={"name": "Plans", "query": query})
    assert (taken.status_code, taken.json()["code"]) == (409, "search_exists")
    monkeypatch.setattr(library, "MOST_SEARCHES", 1)
    more = client.post("/v1/searches", json={"name": "More", "query": query})
    assert (more.status_code, more.json()["code"]) == (409, "too_many_searches")
    wrong = client.post("/v1/searches", json={"name": "Nothing", "query": {"q": "-"}})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_query")
    client.delete(saved.headers["Location"]).raise_for_status()
    assert client.get("/v1/searches").json()["data"] == []
    assert client.delete(saved.headers["Location"]).json()["code"] == "search_not_found"


def opened(client: httpx.Client, token: str, path: str = "/v1/shared", method: str = "GET") -> httpx.Response:
    return client.request(method, path, headers={"Authorization": f"Bearer {token}"})


def test_a_link_opens_one_transcript(guarded: httpx.Client, sessions: Sessions) -> None:
    job, other = (add_transcript(sessions, ["The plan."], filename=f"{n}.flac", title=f"Talk {n}") for n in (1, 2))
    made = guarded.post(f"/v1/jobs/{job}/links", json={"expires_in": 3600})
    assert made.status_code == 201, made.text
    token = made.json()["token"]
    assert made.json()["path"] == f"/shared#{token}"
    shared = opened(guarded, token).json()
    assert (shared["job_id"], shared["title"]) == (str(job), "Talk 1")
    assert shared["audio_url"].startswith("http")
    transcript = opened(guarded, token, f"/v1/jobs/{job}/transcript?format=txt")
    assert "The plan." in transcript.text
    for method, path in [
        *(("GET", f"/v1/jobs/{path}") for path in (f"{other}/transcript", job, f"{job}/audio", f"{job}/links")),
        *(("GET", path) for path in ("/v1/jobs", "/v1/search?q=plan", "/v1/server", "/v1/tags", "/api/health")),
        *(("PATCH", f"/v1/jobs/{job}/segments/0"), ("POST", "/v1/tokens"), ("POST", f"/v1/jobs/{job}/transcript")),
    ]:
        status = opened(guarded, token, path, method).status_code
        assert status == (405 if path.endswith(f"{job}/transcript") and method == "POST" else 403), (method, path)
    assert opened(guarded, token, f"/v1/jobs/{job}/transcript?original=true").json()["code"] == "scope_missing"
    assert guarded.get("/v1/shared").json()["code"] == "link_needed"
    (listed,) = guarded.get(f"/v1/jobs/{job}/links").json()["data"]
    assert token not in str(listed)
    silent = guarded.post(f"/v1/jobs/{job}/links", json={"audio": False}).json()["token"]
    assert opened(guarded, silent).json()["audio_url"] is None

    def read_by_link() -> bool:
        with sessions() as session:
            actors = session.scalars(select(AuditEntry.actor).where(AuditEntry.target == str(job))).all()
        return any(actor.startswith(f"link {listed['id'][:8]} of ") for actor in actors)

    until(read_by_link)
    guarded.delete(f"/v1/jobs/{job}/links/{listed['id']}").raise_for_status()
    refused = opened(guarded, token)
    assert (refused.status_code, refused.json()["code"]) == (401, "link_invalid")
    assert opened(guarded, silent).status_code == 200
    with sessions.begin() as session:
        session.execute(update(Link).values(expires_at=Link.created_at))
    assert opened(guarded, silent, f"/v1/jobs/{job}/transcript").json()["code"] == "link_invalid"
    assert opened(guarded, "lhl_invented").json()["code"] == "link_invalid"
    assert opened(guarded, links.MARK + "a" * 43).json()["code"] == "link_invalid"


def test_who_makes_links_and_how_many(
    guarded: httpx.Client, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = add_transcript(sessions, ["The plan."])
    url = f"/v1/jobs/{job}/links"
    for wanted in ({}, {"job_id": str(job)}):
        asked = {"scopes": ["jobs:read", "jobs:write"], **wanted}
        token = guarded.post("/v1/tokens", json=asked).raise_for_status().json()["token"]
        answer = guarded.post(url, json={}, headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["code"]) == (403, "key_needed")
    token = guarded.post("/v1/tokens", json={"scopes": ["jobs:write"]}).raise_for_status().json()["token"]
    answer = guarded.post(url, json={}, headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")

    monkeypatch.setattr(links, "MOST_OF_A_JOB", 2)
    first, _ = (guarded.post(url, json={}).raise_for_status().json() for _ in range(2))
    answer = guarded.post(url, json={})
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_links")
    guarded.delete(f"{url}/{first['id']}").raise_for_status()
    assert guarded.post(url, json={}).status_code == 201
    assert first["id"] not in guarded.get(url).text


def test_a_link_has_a_limit_of_its_own(
    guarded: httpx.Client, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = add_transcript(sessions, ["The plan."])
    token = guarded.post(f"/v1/jobs/{job}/links", json={}).json()["token"]
    monkeypatch.setattr(guard, "LINK_REQUESTS_PER_MINUTE", 2)
    assert [opened(guarded, token).status_code for _ in range(3)] == [200, 200, 429]
    assert guarded.get("/v1/quotas").status_code == 200


def test_files_of_one_name_are_numbered() -> None:
    names = ["talk", "Talk (2)", "TALK", "talk", "plan"]
    recordings = [Job(id=uuid.uuid4(), filename=f"{name}.mp3", created_at=datetime.now(UTC)) for name in names]
    entries = list(entries_of(recordings, Format.TXT, lambda job_id: None))
    assert [entry.name for entry in entries] == [
        *("talk.txt", "Talk (2).txt", "TALK (3).txt", "talk (4).txt", "plan.txt")
    ]
    with zipfile.ZipFile(io.BytesIO(b"".join(zipped(entries)))) as archive:
        assert archive.namelist() == []  # all were deleted meanwhile


def test_a_link_ends_with_its_job_and_with_its_key(guarded: httpx.Client, sessions: Sessions) -> None:
    job = add_transcript(sessions, ["The plan."])
    with sessions.begin() as session:
        made, key = stored_keys.create(
            session,
            tenant="default",
            name="hers",
            scopes={Scope.JOBS_WRITE, Scope.JOBS_READ},
            max_priority=Priority.NORMAL,
            expires_at=None,
        )
        key_id = made.id

    def link(headers: dict[str, str]) -> str:
        answer = guarded.post(f"/v1/jobs/{job}/links", json={}, headers=headers)
        return str(answer.raise_for_status().json()["token"])

    until(lambda: guarded.get("/v1/quotas", headers={"Authorization": f"Bearer {key}"}).status_code == 200)
    of_key, of_root = link({"Authorization": f"Bearer {key}"}), link({})
    assert opened(guarded, of_key).status_code == opened(guarded, of_root).status_code == 200
    with sessions.begin() as session:
        stored_keys.end(session, session.get_one(StoredKey, key_id).id)
    until(lambda: opened(guarded, of_key).status_code == 401)
    with sessions.begin() as session:
        session.execute(update(Job).where(Job.id == job).values(deleted_at=Job.created_at))
    assert opened(guarded, of_root).json()["code"] == "link_invalid"
