"""``/v1/queues``: what waits, who works, and what it costs."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from api.app import create_app
from cli.commands.plan import workers_for
from cli.main import app
from db.events.bus import Bus
from db.session import Sessions
from db.settings import ApiKey, Settings
from tests.api.conftest import serving
from tests.jobs import add_chunks, make_job


@pytest.fixture
def server(settings: Settings) -> Any:
    given: dict[str, str | ApiKey] = {"root": ApiKey(tenant="house")}
    with serving(create_app(settings.model_copy(update={"api_keys": given})), settings) as opened:
        yield opened


def show(client: httpx.Client, key: str = "root", **query: str) -> dict[str, Any]:
    answer = client.get("/v1/queues", params=query, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def key_of(client: httpx.Client, tenant: str) -> str:
    wanted = {"name": "k", "scopes": ["admin"], "tenant": tenant}
    return str(client.post("/v1/keys", json=wanted, headers={"Authorization": "Bearer root"}).json()["key"])


def run(sessions: Sessions, statement: str) -> None:
    with sessions.begin() as session:
        session.execute(text(statement))


def test_depth_age_workers_and_drain(server: httpx.Client, sessions: Sessions, settings: Settings) -> None:
    nothing = show(server)
    assert set(nothing["queues"]) == {"cpu", "gpu", "io"}
    assert nothing["queues"]["cpu"] | {"workers": 0} == {
        **dict.fromkeys(("waiting", "delayed", "running", "workers"), 0),
        **dict.fromkeys(("oldest_seconds", "drain_seconds"), 0.0),
        "work_per_audio_second": None,
    }
    assert nothing["kinds"]["deliver"]["queue"] == "io"
    make_job(sessions, tenant="acme")
    job = make_job(sessions, tenant="globex")
    add_chunks(sessions, job, 40)
    # of forty drafts ten are done, in a minute; ten run, and five wait for their time
    run(sessions, "UPDATE steps SET run_after = now() - interval '90 s' WHERE kind = 'draft'")
    run(
        sessions,
        "UPDATE steps SET state = 'done', claimed_at = now() - interval '60 s', finished_at = now(), worker = 'w' "
        "WHERE kind = 'draft' AND chunk < 10",
    )
    run(
        sessions,
        "UPDATE steps SET state = 'leased', lease_until = now() + interval '60 s', fence = chunk, worker = 'w' "
        "WHERE kind = 'draft' AND chunk BETWEEN 10 AND 19",
    )
    run(sessions, "UPDATE steps SET run_after = now() + interval '1 h' WHERE kind = 'draft' AND chunk > 34")
    bus = Bus(settings)
    for worker, queue in (("a:1", "cpu"), ("b:1", "cpu"), ("b:2", "gpu")):
        bus.tell_presence(worker, queue, 5)
    bus.redis.hset("longhand.workers", "c:1", json.dumps({"queue": "cpu", "until": 1}))
    found = show(server)
    draft, cpu = found["kinds"]["draft"], found["queues"]["cpu"]
    assert (draft["waiting"], draft["delayed"], draft["running"]) == (15, 5, 10)
    assert draft["oldest_seconds"] == pytest.approx(90, abs=20)
    assert draft["steps_per_second"] == pytest.approx(10 / 60, rel=0.3)
    assert draft["drain_seconds"] == pytest.approx(15 / (10 / 60), rel=0.3)
    # two ingests wait too, of which none was seen to run
    assert (cpu["waiting"], cpu["delayed"], cpu["running"], cpu["drain_seconds"]) == (17, 5, 10, None)
    assert {name: queue["workers"] for name, queue in found["queues"].items()} == {"cpu": 2, "gpu": 1, "io": 0}
    bus.tell_absence("a:1")
    assert show(server)["queues"]["cpu"]["workers"] == 1
    # who does not run the server sees its own alone
    assert show(server, key_of(server, "acme"))["queues"]["cpu"]["waiting"] == 1
    assert show(server, key_of(server, "globex"))["kinds"]["draft"]["waiting"] == 15


def test_what_a_load_wants_is_planned_by_what_the_latest_has_cost(
    server: httpx.Client, sessions: Sessions
) -> None:
    def plan(*arguments: str) -> tuple[int, str]:
        url = ["--url", str(server.base_url), "--key", "root", "--json"]
        done = CliRunner().invoke(app, ["plan", *arguments, *url])
        return done.exit_code, done.output

    code, said = plan("--hours-a-day", "10")
    assert (code, "Nothing was transcribed" in said) == (1, True)
    for _ in range(2):
        job = make_job(sessions, tenant="house")
        add_chunks(sessions, job, 4)
    # each of ten minutes, of which two batches of drafts took 30 s each, side by side with an ingest
    run(sessions, "INSERT INTO steps (job_id, kind) SELECT id, 'finalize' FROM jobs")
    run(
        sessions,
        "UPDATE steps SET state = 'done', worker = 'w:' || job_id, "
        "claimed_at = now() - CASE WHEN chunk < 2 THEN interval '60 s' ELSE interval '30 s' END, "
        "finished_at = now() - CASE WHEN chunk < 2 THEN interval '30 s' ELSE interval '0 s' END",
    )
    run(
        sessions,
        "UPDATE jobs SET status = 'completed', completed_at = now(), duration = 600, transcript_prefix = 'x'",
    )
    found = show(server, measure="true")
    assert found["measured_audio_seconds"] == 1200
    assert found["queues"]["cpu"]["work_per_audio_second"] == pytest.approx(0.1)
    assert found["queues"]["gpu"]["work_per_audio_second"] is None
    code, said = plan("--hours-a-day", "5000")
    assert code == 0
    assert json.loads(said)["workers"] == {"cpu": 30, "gpu": 1, "io": 15}


def test_how_many_workers_a_load_wants() -> None:
    assert workers_for(0.1, 24, 24, 1.0) == 1
    assert workers_for(0.1, 240, 24, 1.0) == 1
    assert workers_for(0.1, 241, 24, 1.0) == 2
    assert workers_for(0.1, 240, 12, 0.5) == 4
    assert workers_for(0.0, 1000, 24, 0.7) == 1
