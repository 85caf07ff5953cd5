"""``longhand search``, ``describe``, ``share`` and ``collections`` against a real server."""

from __future__ import annotations

import asyncio
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from api import routes
from api.app import create_app
from api.problems import Problem
from cli.main import app
from db.models import Job
from db.session import Sessions
from db.settings import Settings
from longhand import AsyncClient, Client
from tests.api.conftest import serving
from tests.api.test_search import add_transcript


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:
    with serving(create_app(settings), settings) as client:
        yield str(client.base_url).rstrip("/")


def run(url: str, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*arguments, "--url", url])
    assert result.exit_code == code, result.output
    return result.stdout


def test_recordings_are_found_sorted_and_shared(url: str, sessions: Sessions, tmp_path: Path) -> None:
    job = str(add_transcript(sessions, ["Good morning.", "The budget [for] next year."], filename="talk.mp3"))
    assert run(url, "search", "budget") == f"talk.mp3  {job}\n  0:00:11  SPEAKER_01: The budget [for] next year.\n"
    assert run(url, "search", "nowhere") == "Nothing was found.\n"
    refused = CliRunner().invoke(app, ["search", "--meaning", "who pays?", "--url", url])
    assert (refused.exit_code, "LONGHAND_SEMANTIC_SEARCH" in refused.output) == (1, True), refused.output

    run(url, "describe", job, "--title", "Board", "--tag", "2026", "--tag", "board")
    assert job in run(url, "jobs", "--tag", "board")
    assert "Board" in run(url, "search", "budget", "--tag", "2026")
    assert run(url, "describe", job, code=2) == ""

    collection = run(url, "collections", "create", "Talks").strip()
    run(url, "collections", "add", collection, job)
    assert run(url, "collections", "list").split()[-3:] == [collection, "Talks", "1"]
    found = json.loads(run(url, "search", "budget", "--collection", collection, "--json"))
    assert [hit["title"] for hit in found] == ["Board"]
    run(url, "collections", "export", collection, str(tmp_path / "talks.zip"), "-f", "vtt")
    with zipfile.ZipFile(tmp_path / "talks.zip") as archive:
        assert archive.namelist() == ["Board.vtt"]
    run(url, "collections", "remove", collection, job)
    run(url, "bulk", "collect", job, "--collection", collection)
    results = json.loads(run(url, "bulk", "untag", "--where", "tag=2026", "--tag", "2026", "--json"))
    assert results == [{"job_id": job, "outcome": "done", "error": None}]
    run(url, "transcripts", str(tmp_path / "found.zip"), "--where", f"collection={collection}")
    with zipfile.ZipFile(tmp_path / "found.zip") as archive:
        assert archive.namelist() == ["Board.txt"]
    assert "1 failed" in run(url, "bulk", "cancel", job, code=1), "the job is done"
    twice = ["tag", "--where", "tag=a", "--where", "tag=b", "--tag", "x"]
    unnamed = ["tag", "--where", "tag", "--tag", "x"]
    named = ["delete", "--where", "name=x", "--yes"]
    for wrong in (["delete", "--where", "tag=x"], ["delete"], ["burn", job], named, twice, unnamed):
        run(url, "bulk", *wrong, code=2)
    run(url, "collections", "delete", collection)

    address = run(url, "share", job, "--days", "1").strip()
    page, _, token = address.partition("#")
    assert page == f"{url}/shared"
    shared = httpx.get(f"{url}/v1/shared", headers={"Authorization": f"Bearer {token}"}).json()
    assert shared["title"] == "Board"


def test_what_was_done_before_an_error_is_said(
    url: str, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        add_transcript(sessions, ["The plan."], filename="talk.mp3")
    select = routes.bulk._select

    def fail_later(*arguments: Any) -> Sequence[Job]:
        if arguments[-1] is not None:
            raise Problem(409, "full", "Full", "No more.")
        return select(*arguments)

    monkeypatch.setattr(routes.bulk, "MOST_AT_ONCE", 1)
    monkeypatch.setattr(routes.bulk, "_select", fail_later)
    wanted = ["bulk", "tag", "--where", "q=talk", "--where", "status=failed", "--where", "status=completed"]
    result = CliRunner().invoke(app, [*wanted, "--tag", "x", "--url", url])
    assert (result.exit_code, "No more. Of those before: 1 done." in result.output) == (1, True), result.output


def test_both_clients_search(url: str, sessions: Sessions) -> None:
    job = str(add_transcript(sessions, ["One budget.", "Two budgets.", "Budget three."]))
    with Client(url) as client:
        found = list(client.search("budget", limit=2))
        assert [hit["job_id"] for hit in found] == [job, job]
        saved = client.searches.save("Money", {"q": "budget"})
        assert [each["name"] for each in client.searches.list()] == ["Money"]
        client.searches.delete(saved["id"])
        link = client.jobs.share(job, audio=False)
        assert [each["id"] for each in client.jobs.links(job)] == [link["id"]]
        client.jobs.revoke_link(job, link["id"])
        collection = client.collections.rename(client.collections.create("A")["id"], "B")
        assert client.collections.get(collection["id"])["name"] == "B"

    async def texts() -> list[str]:
        async with AsyncClient(url) as client:
            return [hit["text"] async for hit in client.search('"budget three"')]

    assert asyncio.run(texts()) == ["Budget three."]
