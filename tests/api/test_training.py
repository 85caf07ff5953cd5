"""Exports, fine-tunings and model versions over HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import httpx
import pytest
from sqlalchemy import update

from api.app import create_app
from db.models import Chunk, Job, JobStatus, ModelVersion, Role, SegmentSource, StoredSegment
from db.session import Sessions
from db.settings import Settings
from db.training import exports, versions
from tests.api.conftest import serving
from tests.jobs import make_job


@pytest.fixture
def opted_in(settings: Settings) -> Iterator[httpx.Client]:
    with serving(create_app(settings.model_copy(update={"training_tenants": ["default"]})), settings) as client:
        yield client


def complete_export(sessions: Sessions, export_id: str) -> None:
    with sessions.begin() as session:
        session.execute(update(Job).where(Job.id == uuid.UUID(export_id)).values(status=JobStatus.COMPLETED))


def test_an_export_is_created_shown_and_deleted(opted_in: httpx.Client) -> None:
    answer = opted_in.post("/v1/exports", json={"date": "2026-03-01", "filters": {"min_snr": 5}, "dry_run": True})
    assert answer.status_code == 202
    created = answer.json()
    assert answer.headers["Location"] == f"/v1/exports/{created['id']}"
    assert (created["status"], created["dry_run"], created["manifest"]) == ("queued", True, None)
    assert (created["since"], created["until"]) == ("2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z")
    assert opted_in.get(f"/v1/exports/{created['id']}").json() == created
    assert [one["id"] for one in opted_in.get("/v1/exports").json()["data"]] == [created["id"]]
    assert opted_in.get("/v1/jobs").json()["data"] == []
    assert opted_in.get(f"/v1/jobs/{created['id']}").status_code == 404
    assert opted_in.delete(f"/v1/exports/{created['id']}").status_code == 204
    assert opted_in.get(f"/v1/exports/{created['id']}").json()["code"] == "export_not_found"


@pytest.mark.parametrize(
    "body",
    [
        {"since": "2026-03-01T00:00:00Z"},
        {"date": "2026-03-01", "since": "2026-03-01T00:00:00Z", "until": "2026-03-02T00:00:00Z"},
        {"since": "2026-03-02T00:00:00Z", "until": "2026-03-01T00:00:00Z"},
        {"since": "2026-03-02T00:00:00", "until": "2026-03-03T00:00:00"},
        {"date": "yesterday"},
        {"filters": {"min_snrr": 5}},
        {"filters": {"min_snr": "loud"}},
        {"cleaning": {"simplfy": True}},
        {"unknown": 1},
    ],
)
def test_an_invalid_export_request_is_refused(opted_in: httpx.Client, body: dict[str, object]) -> None:
    answer = opted_in.post("/v1/exports", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert opted_in.get("/v1/exports").json()["data"] == []


@pytest.mark.parametrize("path", ["/v1/exports", "/v1/finetunes"])
def test_a_tenant_that_has_not_opted_in_is_refused(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json={})
    assert (answer.status_code, answer.json()["code"]) == (403, "training_not_allowed")
    assert "LONGHAND_TRAINING_TENANTS" in answer.json()["detail"]


def test_an_export_has_no_files_before_it_is_complete(opted_in: httpx.Client, sessions: Sessions) -> None:
    export_id = opted_in.post("/v1/exports", json={}).json()["id"]
    answer = opted_in.get(f"/v1/exports/{export_id}/files/train.jsonl")
    assert (answer.status_code, answer.json()["code"]) == (409, "export_not_ready")
    complete_export(sessions, export_id)
    answer = opted_in.get(f"/v1/exports/{export_id}/files/raw/a/b.flac", follow_redirects=False)
    assert answer.status_code == 307
    assert f"{export_id}/raw/a/b.flac" in answer.headers["Location"]
    outside = opted_in.get(f"/v1/exports/{export_id}/files/%2e%2e/%2e%2e/jobs/x", follow_redirects=False)
    assert outside.status_code == 404


def test_fine_tuning_needs_complete_exports_and_runs_one_at_a_time(
    opted_in: httpx.Client, sessions: Sessions
) -> None:
    assert opted_in.post("/v1/finetunes", json={}).json()["code"] == "no_new_exports"
    export_id = opted_in.post("/v1/exports", json={}).json()["id"]
    assert opted_in.post("/v1/finetunes", json={"exports": [export_id]}).json()["code"] == "export_not_ready"
    unknown = opted_in.post("/v1/finetunes", json={"exports": [str(uuid.uuid4())]})
    assert unknown.json()["code"] == "export_not_found"
    complete_export(sessions, export_id)
    created = opted_in.post("/v1/finetunes", json={"epochs": 2}).json()
    assert (created["status"], created["exports"], created["automatic"]) == ("queued", [export_id], False)
    assert created["options"] == {"epochs": 2}
    assert opted_in.post("/v1/finetunes", json={}).json()["code"] == "finetune_running"
    assert opted_in.get(f"/v1/finetunes/{created['id']}").json() == created
    assert opted_in.get("/v1/finetunes").json()["data"] == [created]
    assert opted_in.post(f"/v1/finetunes/{created['id']}/cancel").json()["status"] == "cancelled"
    assert opted_in.post("/v1/finetunes", json={}).json()["exports"] == [export_id]
    assert opted_in.get(f"/v1/finetunes/{export_id}").status_code == 404


def test_versions_are_promoted_and_rolled_back(client: httpx.Client, sessions: Sessions) -> None:
    ids = [uuid.uuid4(), uuid.uuid4()]
    with sessions.begin() as session:
        for version_id in ids:
            versions.register(
                *(session, "default", Role.DRAFT, version_id),
                engine="sensevoice",
                finetune_id=None,
                base="x",
                metrics={},
                files={},
                rejection=None,
            )
    newest, oldest = client.get("/v1/model-versions").json()["data"]
    assert (newest["state"], newest["stage"], oldest["state"]) == ("canary", 5, "rolled_back")
    path = f"/v1/model-versions/{newest['id']}"
    assert client.post(f"{path}/promote").json()["state"] == "serving"
    answer = client.post(f"{path}/promote")
    assert (answer.status_code, answer.json()["code"]) == (409, "version_not_possible")
    assert client.post(f"{path}/rollback").json()["state"] == "rolled_back"
    assert client.get(f"/v1/model-versions/{uuid.uuid4()}").json()["code"] == "version_not_found"
    with sessions() as session:
        assert session.get_one(ModelVersion, ids[1]).stage == 0


def test_a_corrected_job_is_exported_again(sessions: Sessions) -> None:
    job_id = make_job(sessions)
    since, until = exports.day_bounds(date(2026, 3, 2))
    with sessions.begin() as session:
        for corrected_at, expected in (("2026-03-01T12:00Z", False), ("2026-03-02T12:00Z", True)):
            session.execute(
                update(Job)
                .where(Job.id == job_id)
                .values(
                    status=JobStatus.COMPLETED,
                    transcript_prefix="x",
                    completed_at=datetime.fromisoformat("2026-03-01T12:00Z"),
                    corrected_at=datetime.fromisoformat(corrected_at),
                )
            )
            assert exports.has_transcripts(session, "default", since, until) is expected


def test_the_report_tells_what_was_wrong_and_what_is_learnt(client: httpx.Client, sessions: Sessions) -> None:
    now = datetime.now(UTC)
    job_id = make_job(
        sessions, status=JobStatus.COMPLETED, transcript_prefix="x", completed_at=now, corrected_at=now
    )
    make_job(sessions, status=JobStatus.COMPLETED, transcript_prefix="x", completed_at=now)  # nobody read it
    with sessions.begin() as session:
        session.add(Chunk(job_id=job_id, index=0, start=0.0, end=60.0, key="c"))
        session.flush()
        for index, (text, machine) in enumerate((("He had a hat.", "He hat a hat."), ("It is so.", None))):
            session.add(
                StoredSegment(
                    **{
                        "job_id": job_id,
                        "index": index,
                        "chunk": 0,
                        "start": 30.0 * index,
                        "end": 30.0 * index + 30,
                    },
                    **{"text": text, "language": "en", "confidence": 1.0, "words": []},
                    source=SegmentSource.HUMAN if machine else SegmentSource.REFINED,
                    machine=machine and {"text": machine},
                )
            )
        learnt = [f"{job_id}-{0:06d}", f"{uuid.uuid4()}-{0:06d}"]
        versions.register(
            *(session, "default", Role.REFINED, uuid.uuid4()),
            engine="whisper",
            finetune_id=None,
            base="x",
            metrics={"learnt": learnt, "seconds": 90.0},
            files={},
            rejection=None,
        )
    report = client.get("/v1/model-versions/report").json()
    rate = {"rate": round(1 / 15, 4), "characters": 15, "minutes": 1.0}
    monday = now.date() - timedelta(days=now.weekday())
    assert report["weeks"] == [{"name": monday.isoformat()} | rate]
    assert report["languages"] == [{"name": "en"} | rate]
    assert report["voices"] == []
    (clip,) = report["learnt"]
    assert (clip["job_id"], clip["wrong"], clip["right"]) == (str(job_id), "hat", "had")
    assert (clip["start"], clip["end"]) == (0.0, 30.0)
    assert report["cost"] == [{"version": 1, "role": "refined", "minutes": 1.5}]
    # what is gone is told of no more
    assert client.delete(f"/v1/jobs/{job_id}").status_code in (200, 202, 204)
    emptied = client.get("/v1/model-versions/report").json()
    assert (emptied["weeks"], emptied["learnt"]) == ([], [])
