"""Readings over HTTP: who may ask for what, templates, and translated transcripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from api.app import create_app
from db import readings
from db.models import AuditEntry, ReadingKind
from db.queue.transaction import job_transaction
from db.readings import Made
from db.session import Sessions
from db.settings import Settings
from tests.api.conftest import serving
from tests.jobs import make_job
from tests.transcribed import transcribed
from tests.waiting import until

TEXTS = ["we met on Monday", "the budget is large"]


@pytest.fixture
def reader(settings: Settings, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of a server that knows a language model."""
    file = tmp_path / "endpoints.toml"
    file.write_text('[[language_model]]\nname = "reader"\nhosts = ["http://127.0.0.1:9"]\n')
    with_model = settings.model_copy(update={"endpoints": file})
    with serving(create_app(with_model), with_model) as opened:
        yield opened


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_it_is_off_without_a_model(client: httpx.Client, sessions: Sessions) -> None:
    job = transcribed(sessions, TEXTS)
    assert code(client.post(f"/v1/jobs/{job}/summaries", json={})) == (422, "model_not_found")
    recording = {"file": ("a.wav", b"RIFF", "audio/wav")}
    assert code(client.post("/v1/jobs", files=recording, data={"summarise": "{}"})) == (422, "model_not_found")


def test_the_server_says_which_models_it_has(client: httpx.Client, reader: httpx.Client) -> None:
    assert client.get("/v1/server").json()["language_models"] == []
    assert reader.get("/v1/server").json()["language_models"] == ["reader"]


def test_summaries_are_asked_for_listed_shown_and_deleted(reader: httpx.Client, sessions: Sessions) -> None:
    job = transcribed(sessions, TEXTS)
    made = reader.post(f"/v1/jobs/{job}/summaries", json={"language": "de"})
    assert made.status_code == 202
    path = made.headers["Location"]
    number = made.json()["number"]
    assert path == f"/v1/jobs/{job}/readings/{number}"
    shown = reader.get(path).json()
    assert (shown["status"], shown["stale"], shown["content"]) == ("queued", False, None)
    content = {
        "title": {"text": "A talk", "segments": [0], "start": 0.0},
        "summary": [{"text": "They met.", "segments": [0], "start": 0.0}],
        "chapters": [],
        "actions": [],
    }
    with job_transaction(sessions, job) as tx:
        readings.complete(tx, number, Made(content, "reader", {"prompt": 3}, tx.job.corrected_at))
    shown = reader.get(path).json()
    assert (shown["status"], shown["stale"], shown["content"]) == ("completed", False, content)
    question = reader.post(f"/v1/jobs/{job}/questions", json={"question": "When?"}).json()["number"]
    listed = reader.get(f"/v1/jobs/{job}/readings").json()["data"]
    assert [each["number"] for each in listed] == [question, number]
    assert "content" not in listed[1]
    assert listed[0]["request"] == {"question": "When?"}

    def is_recorded() -> bool:
        with sessions() as session:
            actions = session.scalars(select(AuditEntry.action).where(AuditEntry.target == str(job))).all()
        return "GET /v1/jobs/{job_id}/readings" in actions

    until(is_recorded)
    assert reader.get(f"/v1/jobs/{job}/readings", params={"kind": "answer"}).json()["data"] == listed[:1]
    assert reader.patch(f"/v1/jobs/{job}/segments/0", json={"text": "we met on Tuesday"}).status_code == 200
    assert reader.get(path).json()["stale"] is True
    assert reader.delete(path).status_code == 204
    assert code(reader.get(path)) == code(reader.delete(path)) == (404, "reading_not_found")


def test_what_cannot_be_read_is_refused(reader: httpx.Client, sessions: Sessions) -> None:
    running, done = make_job(sessions), transcribed(sessions, TEXTS)

    def ask(job: object, what: str = "summaries", **body: object) -> tuple[int, str]:
        return code(reader.post(f"/v1/jobs/{job}/{what}", json=body))

    assert ask(running) == (409, "transcript_not_finished")
    assert ask("nothing") == (404, "job_not_found")
    assert ask(done, model="other") == (422, "model_not_found")
    assert ask(done, template="none") == (404, "template_not_found")
    assert ask(done, language="xx") == (422, "invalid_request")
    assert ask(done, "questions") == (422, "invalid_request")
    assert ask(done, "questions", question=" ") == (422, "invalid_request")
    assert ask(done, "translations") == (422, "invalid_request")


def test_those_that_wait_are_few(
    reader: httpx.Client, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "MOST_WAITING", 1)
    jobs = [transcribed(sessions, TEXTS) for _ in range(2)]
    number = reader.post(f"/v1/jobs/{jobs[0]}/summaries", json={}).raise_for_status().json()["number"]
    refused = reader.post(f"/v1/jobs/{jobs[1]}/summaries", json={})
    assert (*code(refused), refused.headers["Retry-After"]) == (429, "too_many_readings_waiting", "30")
    reader.delete(f"/v1/jobs/{jobs[0]}/readings/{number}").raise_for_status()
    assert reader.post(f"/v1/jobs/{jobs[1]}/summaries", json={}).status_code == 202


def test_templates(reader: httpx.Client, sessions: Sessions) -> None:
    brief = {"instructions": "For\nlawyers.", "parts": ["summary"], "sentences": 3}
    assert reader.put("/v1/templates/brief", json={"sentences": 1}).status_code == 200
    assert reader.put("/v1/templates/brief", json=brief).json() == brief | {"name": "brief"}
    assert reader.get("/v1/templates").json() == {"data": [brief | {"name": "brief"}]}
    job = transcribed(sessions, TEXTS)
    made = reader.post(f"/v1/jobs/{job}/summaries", json={"template": "brief"})
    assert made.json()["request"] == {"template": "brief"}
    assert reader.delete("/v1/templates/brief").status_code == 204
    assert reader.get("/v1/templates").json() == {"data": []}
    assert code(reader.put("/v1/templates/b", json={"parts": []})) == (422, "invalid_request")


def test_subtitles_in_another_language_keep_their_times(reader: httpx.Client, sessions: Sessions) -> None:
    job = transcribed(sessions, TEXTS)
    transcript = f"/v1/jobs/{job}/transcript"
    assert code(reader.get(transcript, params={"language": "fr"})) == (404, "translation_not_found")
    with job_transaction(sessions, job) as tx:
        number = readings.start(tx, ReadingKind.TRANSLATION, {"language": "fr"}).number
        segments = [{"index": 0, "version": 0, "text": "on s'est vus lundi"}]
        readings.complete(tx, number, Made({"segments": segments}, "reader", {}, None))
    ours = reader.get(transcript, params={"format": "srt"}).text
    theirs = reader.get(transcript, params={"format": "srt", "language": "fr"}).text
    assert theirs == ours.replace("we met on Monday", "on s'est vus lundi")
    shown = reader.get(transcript, params={"language": "fr"}).json()
    assert shown["language"] == "fr"
    assert [segment["text"] for segment in shown["segments"]] == ["on s'est vus lundi", TEXTS[1]]
    assert shown["segments"][0]["words"][-1]["end"] == 6.0
    assert code(reader.get(transcript, params={"language": "fr", "original": "true"})) == (422, "invalid_request")


def test_a_vocabulary_is_kept_and_learnt(reader: httpx.Client, sessions: Sessions) -> None:
    job = transcribed(sessions, ["aider sat down", "then aider spoke", "nothing here"])
    empty = reader.get("/v1/vocabulary/proposals").json()
    reader.patch(f"/v1/jobs/{job}/segments/0", json={"text": "Ada sat down"}).raise_for_status()
    assert reader.get("/v1/vocabulary/proposals").json() == empty == {"data": []}
    reader.patch(f"/v1/jobs/{job}/segments/1", json={"text": "then Ada spoke"}).raise_for_status()
    proposal = {"term": "Ada", "sounds_like": ["aider"], "corrections": 2}
    assert reader.get("/v1/vocabulary/proposals").json() == {"data": [proposal]}
    reader.post(f"/v1/jobs/{job}/segments/1/revert", json={}).raise_for_status()
    assert reader.get("/v1/vocabulary/proposals").json() == empty, "what is taken back was no correction"
    made = reader.post("/v1/vocabulary", json={"term": "Ada", "sounds_like": ["aider"]})
    path = made.headers["Location"]
    assert made.status_code == 201
    assert code(reader.post("/v1/vocabulary", json={"term": "Ada"})) == (409, "term_exists")
    changed = reader.patch(path, json={"accepted": False, "language": "en"}).json()
    assert (changed["accepted"], changed["language"], changed["sounds_like"]) == (False, "en", ["aider"])
    assert reader.delete(path).status_code == 204
    assert code(reader.delete(path)) == (404, "term_not_found")
    for term in ("", "…", "one two three four five six seven"):
        assert code(reader.post("/v1/vocabulary", json={"term": term})) == (422, "invalid_request")
