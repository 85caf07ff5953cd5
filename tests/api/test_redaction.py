"""Redaction by the API: whose rule holds, corrections, and originals for admins."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select

from api.app import create_app
from db.models import AuditEntry, Chunk, JobStatus, Role, SegmentSource, StoredHypothesis, StoredSegment
from db.objects.storage import Storage
from db.queue.transaction import job_transaction
from db.secrets import Secrets
from db.session import Sessions
from db.settings import Settings
from tests.api.conftest import serving
from tests.api.test_jobs import problem
from tests.jobs import make_job
from tests.waiting import until

KEY = Fernet.generate_key().decode()
ROOT = {"Authorization": "Bearer root"}
NUMBER = "138 0013 8000"

Serve = Callable[..., httpx.Client]


@pytest.fixture
def serve(settings: Settings) -> Iterator[Serve]:
    """Clients of servers with changed settings."""
    opened: list[Any] = []

    def start(**changes: Any) -> httpx.Client:
        keyed = settings.model_copy(update={"api_keys": {"root": "default"}, "secret_key": KEY} | changes)
        opened.append(serving(create_app(keyed), keyed))
        client: httpx.Client = opened[-1].__enter__()
        client.headers.update(ROOT)
        return client

    yield start
    for each in opened:
        each.__exit__(None, None, None)


def words(text: str, start: float) -> list[dict[str, Any]]:
    return [
        {"text": word, "start": start + i, "end": start + i + 0.8, "confidence": 0.7}
        for i, word in enumerate(text.split())
    ]


def redacted_job(sessions: Sessions, key: str | None, *, status: JobStatus = JobStatus.COMPLETED) -> uuid.UUID:
    """A chunk with a final segment, and one with a draft alone; the originals are sealed with the key."""
    made = make_job(sessions)
    secrets = Secrets(Settings(secret_key=key)) if key else None

    def sealed(start: float) -> bytes | None:
        original = {"kind": "phone", "text": NUMBER, "start": start, "end": start + 0.8}
        return secrets.seal(json.dumps([original]).encode()) if secrets else None

    with job_transaction(sessions, made) as tx:
        for chunk in (0, 1):
            start = chunk * 30.0
            tx.session.add(Chunk(job_id=made, index=chunk, start=start, end=start + 30, key=f"c{chunk}"))
            tx.session.flush()
            text = "Call [PHONE] now."
            phrase = {
                "start": start,
                "end": start + 3,
                "text": text,
                "confidence": 0.7,
                "words": words(text, start),
            }
            content = {"language": "en", "signals": {}, "phrases": [phrase]}
            tx.session.add(
                StoredHypothesis(
                    job_id=made,
                    chunk=chunk,
                    role=Role.DRAFT,
                    engine={},
                    content=content,
                    original=sealed(start + 1),
                )
            )
        tx.session.add(
            StoredSegment(
                job_id=made, index=0, chunk=0, start=0.0, end=2.8, text=text, language="en", confidence=0.7,
                source=SegmentSource.REFINED, words=words(text, 0.0),
            )
        )  # fmt: skip
        tx.job.status, tx.job.duration = status, 60.0
        tx.job.transcript_prefix = f"jobs/{made}/old/"
    return made


class TestOriginals:
    @pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.PROCESSING])
    def test_an_admin_reads_them_in_every_format(
        self, serve: Serve, sessions: Sessions, settings: Settings, status: JobStatus
    ) -> None:
        client = serve()
        job_id = redacted_job(sessions, KEY, status=status)
        url = f"/v1/jobs/{job_id}/transcript"
        # drafts are shown until the job is completed
        shown_segments = 1 if status == JobStatus.COMPLETED else 2
        for format_ in ("json", "txt", "srt", "vtt", "tsv", "md", "csv"):
            plain = client.get(url, params={"format": format_}).text
            assert "PHONE" in plain
            assert NUMBER not in plain
            shown = client.get(url, params={"format": format_, "original": True}).text
            assert shown.count(NUMBER) >= shown_segments
            assert "PHONE" not in shown
        whole = client.get(url, params={"original": True}).json()
        assert [segment["text"] for segment in whole["segments"]] == [f"Call {NUMBER} now."] * shown_segments
        assert [word["text"] for word in whole["segments"][0]["words"]] == ["Call", NUMBER, "now."]
        assert not list(Storage(settings).list(f"jobs/{job_id}/")), "nothing of it is stored"

    def test_nobody_else_does_and_reading_leaves_an_entry(self, serve: Serve, sessions: Sessions) -> None:
        client = serve()
        job_id = redacted_job(sessions, KEY)
        url = f"/v1/jobs/{job_id}/transcript?original=true"
        for scope, status in (("jobs:read", 403), ("admin", 200)):
            key = client.post("/v1/keys", json={"name": scope, "scopes": [scope]}).json()["key"]
            answer = client.get(url, headers={"Authorization": f"Bearer {key}"})
            assert answer.status_code == status, answer.text
            if status == 403:
                assert problem(answer)["code"] == "scope_missing"
            token = client.post(
                "/v1/tokens", json={"scopes": ["jobs:read"]}, headers={"Authorization": f"Bearer {key}"}
            ).json()["token"]
            answer = client.get(url, headers={"Authorization": f"Bearer {token}"})
            assert problem(answer)["code"] == "scope_missing"

        def entries() -> list[AuditEntry]:
            wanted = AuditEntry.action == "GET /v1/jobs/{job_id}/transcript with originals"
            with sessions() as session:
                return list(session.scalars(select(AuditEntry).where(wanted)))

        until(lambda: len(entries()) == 1)
        assert (entries()[0].target, entries()[0].status) == (str(job_id), 200)
        assert entries()[0].actor.startswith("admin")

    def test_what_is_not_kept_is_told(self, serve: Serve, sessions: Sessions) -> None:
        answer = serve().get(f"/v1/jobs/{redacted_job(sessions, None)}/transcript?original=true")
        assert (answer.status_code, problem(answer)["code"]) == (404, "original_not_kept")

    @pytest.mark.parametrize("key", [None, Fernet.generate_key().decode()], ids=["none", "another"])
    def test_a_lost_key_is_told(self, serve: Serve, sessions: Sessions, key: str | None) -> None:
        client = serve(secret_key=key)
        job_id = redacted_job(sessions, KEY)
        answer = client.get(f"/v1/jobs/{job_id}/transcript?original=true")
        assert (answer.status_code, problem(answer)["code"]) == (409, "secret_locked")
        assert client.get(f"/v1/jobs/{job_id}/transcript").status_code == 200

    def test_an_older_key_still_opens(self, serve: Serve, sessions: Sessions) -> None:
        client = serve(secret_key=f"{Fernet.generate_key().decode()},{KEY}")
        url = f"/v1/jobs/{redacted_job(sessions, KEY)}/transcript?original=true"
        assert NUMBER in client.get(url).text


class TestCorrections:
    def test_what_people_type_is_redacted_too(self, serve: Serve, sessions: Sessions) -> None:
        client = serve(redact=["phone"])
        job_id = redacted_job(sessions, None)
        corrected = f"Please call {NUMBER}, or ada@example.com, now."
        answer = client.patch(f"/v1/jobs/{job_id}/segments/0", json={"text": corrected}).json()
        assert answer["text"] == "Please call [PHONE], or ada@example.com, now."
        assert [word["text"] for word in answer["words"]][2] == "[PHONE],"
        with sessions() as session:
            assert session.get_one(StoredSegment, (job_id, 0)).text == answer["text"]
        assert "0013" not in client.get(f"/v1/jobs/{job_id}/transcript").text

    def test_but_not_without_a_rule(self, serve: Serve, sessions: Sessions) -> None:
        client = serve()
        url = f"/v1/jobs/{redacted_job(sessions, None)}/segments/0"
        assert client.patch(url, json={"text": f"Call {NUMBER}."}).json()["text"] == f"Call {NUMBER}."
        client.patch("/v1/tenants/default", json={"redact": ["phone"]})
        assert client.patch(url, json={"text": f"Ring {NUMBER}."}).json()["text"] == "Ring [PHONE]."

    def test_those_of_a_job_with_a_rule_of_its_own(self, serve: Serve, sessions: Sessions) -> None:
        client = serve()
        job_id = redacted_job(sessions, KEY)
        with job_transaction(sessions, job_id) as tx:
            tx.job.options = {"redact": ["phone"]}
        url = f"/v1/jobs/{job_id}"
        segment = client.patch(f"{url}/segments/0", json={"text": "Please call [PHONE] soon."}).json()
        assert segment["source"] == "human"
        restored = client.get(f"{url}/transcript?original=true").json()["segments"][0]
        assert restored["text"] == f"Please call {NUMBER} soon."


class TestTenants:
    def test_rules_of_their_own(self, serve: Serve) -> None:
        client = serve()

        def rules(answer: httpx.Response) -> tuple[Any, Any]:
            assert answer.status_code == 200, answer.text
            return answer.json()["redact"], answer.json()["keep_original"]

        url = "/v1/tenants/acme"
        assert rules(client.get(url)) == (None, None)
        assert rules(client.patch(url, json={"redact": ["phone", "id"], "keep_original": True})) == (
            ["phone", "id"],
            True,
        )
        assert rules(client.patch(url, json={"redact": []})) == ([], True)
        assert rules(client.put(url, json={"keep_original": False})) == (None, False)
        assert rules(client.patch(url, json={"keep_original": None})) == (None, None)

    @pytest.mark.parametrize("change", [{"redact": ["names"]}, {"redact": "phone"}, {"keep_original": "perhaps"}])
    def test_mistakes_are_refused(self, serve: Serve, change: dict[str, Any]) -> None:
        answer = serve().patch("/v1/tenants/acme", json=change)
        assert (answer.status_code, problem(answer)["code"]) == (422, "invalid_request")

    def test_nothing_is_kept_without_a_key(self, serve: Serve) -> None:
        client = serve(secret_key=None)
        for method in ("PUT", "PATCH"):
            answer = client.request(method, "/v1/tenants/acme", json={"redact": ["id"], "keep_original": True})
            assert (answer.status_code, problem(answer)["code"]) == (409, "secret_key_missing")
        assert client.get("/v1/tenants/acme").json()["redact"] is None
        assert client.patch("/v1/tenants/acme", json={"keep_original": False}).status_code == 200


def test_the_option_of_a_job(serve: Serve) -> None:
    client = serve()

    def upload(**data: str) -> httpx.Response:
        return client.post("/v1/jobs", files={"file": ("a.wav", b"RIFF", "audio/wav")}, data=data)

    for data in ({"redact": "phone, card"}, {"options": '{"redact": ["phone", "card"]}'}):
        assert upload(**data).json()["options"]["redact"] == ["phone", "card"]
    assert "redact" not in upload().json()["options"]
    answer = upload(redact="names")
    assert (answer.status_code, problem(answer)["code"]) == (422, "invalid_options")
