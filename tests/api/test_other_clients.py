"""Clients that nobody has to install: curl, and the EventSource of browsers."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from db.models import EventType, JobStatus
from db.queue.transaction import JobTransaction, job_transaction
from db.session import Sessions
from tests.api.conftest import client as client
from tests.jobs import make_job
from tests.media import DATA
from tests.node import node


def completed(tx: JobTransaction) -> None:
    tx.skip_open_steps()
    tx.job.status, tx.job.transcript_prefix = JobStatus.COMPLETED, "nowhere/"
    tx.emit(EventType.JOB_COMPLETED, {})


def test_curl(client: httpx.Client, sessions: Sessions, tmp_path: Path) -> None:
    """The lines of the README."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")

    def curl(path: str, *options: str) -> str:
        command = ["curl", "-fsS", *options, f"{client.base_url}{path}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    job = json.loads(curl("/v1/jobs", "-F", f"file=@{DATA / 'jfk.flac'}", "-F", "language=en"))
    assert (job["status"], job["language"]) == ("queued", "en")
    with job_transaction(sessions, job["id"]) as tx:
        completed(tx)
    events = curl(f"/v1/jobs/{job['id']}/events", "-N")
    assert [line for line in events.splitlines() if line.startswith("event: ")] == [
        "event: job.queued",
        "event: job.completed",
    ]
    resumed = curl(f"/v1/jobs/{job['id']}/events", "-N", "-H", "Last-Event-ID: 1")
    assert "job.queued" not in resumed
    assert json.loads(curl(f"/v1/jobs/{job['id']}/transcript?format=json"))["segments"] == []


def test_event_source(client: httpx.Client, sessions: Sessions) -> None:
    """It goes on by itself where a stream ends, and ends when it is told that nothing follows."""
    job_id = make_job(sessions)
    command = [*node("eventsource.mjs"), f"{client.base_url}/v1/jobs/{job_id}/events"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reading:
        assert reading.stdout is not None
        assert json.loads(reading.stdout.readline()) == {"type": "job.queued", "id": 1}
        with job_transaction(sessions, job_id) as tx:
            completed(tx)
        assert json.loads(reading.stdout.readline()) == {"type": "job.completed", "id": 2}
        # the stream's end; after the answer to its return, nothing keeps it
        assert json.loads(reading.stdout.readline()) == {"closed": False}
        assert all(json.loads(line)["closed"] for line in reading.stdout)
    assert reading.returncode == 0
