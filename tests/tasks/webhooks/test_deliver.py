"""From an event to a receiver: signed, in order, again and again, and nowhere else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from sqlalchemy import event, select, text, update

from db import readings
from db.models import (
    AuditEntry,
    DeliveryState,
    EventType,
    JobPurpose,
    JobStatus,
    ReadingKind,
    Webhook,
    WebhookSecret,
)
from db.queue.transaction import job_transaction
from db.readings import Made
from db.settings import Settings
from db.webhooks import deliveries, outbox, signing
from tasks.maintenance.retention import delete_old_deliveries
from tasks.runtime import Runtime
from tasks.webhooks import deliver
from tasks.webhooks.request import Answer
from tests.conftest import environment_of
from tests.jobs import make_job
from tests.tasks.fakes import FakeRuntime
from tests.tasks.fetch.server import Handler, WebServer, redirect, serving, trickling, whole
from tests.tasks.pipeline import recording, run_until_done, submit
from tests.tasks.webhooks.receivers import (
    deliveries_of,
    end,
    ids,
    is_signed,
    received,
    skip_pauses,
    subscribe,
    tenant_secret,
)
from tests.waiting import until
from workers.watchdog import Watchdog

PRIVATE = [ip_network("127.0.0.0/8")]
Answerer = Callable[[Handler], None]


@pytest.fixture
def web() -> Iterator[WebServer]:
    with serving() as server:
        server.routes["/hook"] = whole(b"")
        yield server


@pytest.fixture
def runtime(make_runtime: Callable[..., FakeRuntime]) -> FakeRuntime:
    return make_runtime(webhook_private=PRIVATE)


def in_turn(*answers: Answerer) -> Answerer:
    left = list(answers)
    return lambda handler: left.pop(0)(handler)


def status(code: int, body: bytes = b"", **headers: str) -> Answerer:
    return lambda handler: handler.answer(code, body, **headers)


def claim(runtime: Runtime) -> deliveries.DeliveryClaim:
    found = deliveries.claim(runtime.sessions, 60)
    assert found is not None
    return found


class TestTold:
    def test_a_transcription_from_its_upload_to_its_receivers(self, runtime: FakeRuntime, web: WebServer) -> None:
        """Those of the tenant, and the one that the job names. Neither is sent anything that was said."""
        web.routes["/own"] = whole(b"")
        _, secret = subscribe(runtime, f"{web.url}/hook")
        own_secret = tenant_secret(runtime.sessions, runtime.settings)
        job_id = submit(runtime, recording(), options={"webhook": {"url": f"{web.url}/own?from=longhand"}})
        run_until_done(runtime)
        assert deliver.run(runtime) == 2
        for (path, headers), body in zip(web.asked, web.bodies, strict=True):
            assert is_signed(headers, body, own_secret if path.startswith("/own") else secret)
            assert b"monday" not in body.lower()
        own = web.paths.index("/own?from=longhand")
        assert not is_signed(web.asked[own][1], web.bodies[own], secret)
        del web.asked[own], web.bodies[own]
        (message,) = received(web, secret)
        told = message["data"]
        assert message["type"] == "job.completed"
        assert (told["id"], told["status"], told["error"]) == (str(job_id), "completed", None)
        assert told["duration"] == pytest.approx(52.4, abs=0.1)
        assert told["urls"]["transcript"] == f"/v1/jobs/{job_id}/transcript"
        assert datetime.fromisoformat(message["timestamp"]).tzinfo is not None
        assert {row.state for row in deliveries_of(runtime.sessions)} == {DeliveryState.DELIVERED}

    def test_only_what_was_subscribed_to(self, runtime: FakeRuntime, web: WebServer) -> None:
        subscribe(runtime, f"{web.url}/hook", ["job.failed"])
        subscribe(runtime, f"{web.url}/hook", ["job.cancelled"], tenant="another")
        end(runtime.sessions, make_job(runtime.sessions))
        assert deliver.run(runtime) == 0

    def test_an_export_is_called_so_and_an_enrolment_is_nobodys_business(
        self, runtime: FakeRuntime, web: WebServer
    ) -> None:
        _, secret = subscribe(runtime, f"{web.url}/hook")
        export = make_job(runtime.sessions, purpose=JobPurpose.EXPORT, bytes=0)
        end(runtime.sessions, export, JobStatus.COMPLETED)
        voice = uuid.uuid4()
        with runtime.sessions.begin() as session:
            session.execute(
                text("INSERT INTO voices (id, tenant, name) VALUES (:id, 'default', 'Ada')"), {"id": voice}
            )
        end(runtime.sessions, make_job(runtime.sessions, voice_id=voice))
        assert deliver.run(runtime) == 1
        (message,) = received(web, secret)
        assert (message["type"], message["data"]["urls"]) == (
            "export.completed",
            {"self": f"/v1/exports/{export}"},
        )

    def test_readings_are_told_of(self, runtime: FakeRuntime, web: WebServer) -> None:
        _, secret = subscribe(runtime, f"{web.url}/hook", ["reading.completed", "reading.failed"])
        job_id = make_job(runtime.sessions, options={"webhook": {"url": f"{web.url}/own"}})
        with job_transaction(runtime.sessions, job_id) as tx:
            made, failed = (readings.start(tx, kind, {}).number for kind in ReadingKind if kind != "answer")
            readings.complete(tx, made, Made({"summary": ["secret"]}, "reader", {}, None))
            readings.fail(tx, failed, "engine_away", "Nobody answers.")
        assert deliver.run(runtime) == 2
        told = {message["type"]: message["data"] for message in received(web, secret)}
        assert told["reading.completed"]["urls"]["reading"] == f"/v1/jobs/{job_id}/readings/{made}"
        assert {name: (data["kind"], data["error"]) for name, data in told.items()} == {
            "reading.completed": ("summary", None),
            "reading.failed": ("translation", {"code": "engine_away", "message": "Nobody answers."}),
        }
        assert b"secret" not in b"".join(web.bodies)

    def test_an_event_in_parts_is_told_once(self, runtime: FakeRuntime, web: WebServer) -> None:
        subscribe(runtime, f"{web.url}/hook")
        with job_transaction(runtime.sessions, make_job(runtime.sessions)) as tx:
            for _ in range(3):
                tx.emit(EventType.SPEAKERS_ASSIGNED, {"speakers": [], "segments": []})
        assert tx.ready == [outbox.DELIVER]
        assert deliver.run(runtime) == 1

    def test_what_is_rolled_back_is_told_to_nobody(self, runtime: FakeRuntime, web: WebServer) -> None:
        subscribe(runtime, f"{web.url}/hook")
        job_id = make_job(runtime.sessions)

        def break_off() -> None:
            with job_transaction(runtime.sessions, job_id) as tx:
                tx.emit(EventType.JOB_CANCELLED, {})
                raise RuntimeError

        with pytest.raises(RuntimeError):
            break_off()
        assert deliver.run(runtime) == 0

    def test_events_without_receivers_cost_one_look_at_an_index(self, runtime: FakeRuntime) -> None:
        job_id = make_job(runtime.sessions)
        statements: list[str] = []

        @event.listens_for(runtime.sessions.kw["bind"], "before_cursor_execute")
        def count(connection: object, cursor: object, statement: str, *_: object) -> None:
            statements.append(statement)

        with job_transaction(runtime.sessions, job_id) as tx:
            for _ in range(100):
                tx.emit(EventType.JOB_PROGRESS, {})
            assert not [one for one in statements if "webhook" in one]
            tx.emit(EventType.JOB_CANCELLED, {})
        assert len([one for one in statements if "webhook" in one]) == 1


class TestAttempts:
    def test_a_receiver_that_comes_back(self, runtime: FakeRuntime, web: WebServer) -> None:
        webhook_id, secret = subscribe(runtime, f"{web.url}/hook")
        web.routes["/hook"] = in_turn(status(500, b"no\x00 room\n" + bytes(2000)), status(204))
        end(runtime.sessions, make_job(runtime.sessions))
        assert deliver.run(runtime) == 1
        (row,) = deliveries_of(runtime.sessions)
        assert (row.state, row.lease_until, len(row.attempts)) == (DeliveryState.WAITING, None, 1)
        assert (row.attempts[0]["status"], row.attempts[0]["answer"]) == (500, "no  room")
        assert deliver.run(runtime) == 0, "not before its time"
        with runtime.sessions() as session:
            assert session.get_one(Webhook, webhook_id).failing_since is not None
        skip_pauses(runtime.sessions)
        assert deliver.run(runtime) == 1
        (row,) = deliveries_of(runtime.sessions)
        assert (row.state, [attempt["status"] for attempt in row.attempts]) == (
            DeliveryState.DELIVERED,
            [500, 204],
        )
        assert ids(web) == [str(row.id)] * 2
        assert web.bodies[0] == web.bodies[1]
        assert len(received(web, secret)) == 2
        with runtime.sessions() as session:
            assert session.get_one(Webhook, webhook_id).failing_since is None

    def test_the_schedule(self, runtime: FakeRuntime, web: WebServer) -> None:
        subscribe(runtime, f"{web.url}/hook")
        web.routes["/hook"] = status(503)
        end(runtime.sessions, make_job(runtime.sessions))
        pauses = []
        while deliver.run(runtime):
            (row,) = deliveries_of(runtime.sessions)
            pauses.append((row.next_at - datetime.now(UTC)).total_seconds())
            skip_pauses(runtime.sessions)
        assert (row.state, row.ended_at is not None, len(row.attempts)) == (DeliveryState.FAILED, True, 8)
        assert pauses[:-1] == pytest.approx(deliver.DELAYS, rel=deliver.JITTER + 0.01, abs=2)
        assert sum(deliver.DELAYS) > 24 * 3600

    @pytest.mark.parametrize(
        ("header", "pause"),
        [
            ("1800", 1800),
            ("1", 5),
            ("99999999", 24 * 3600),
            ("soon", 5),
            ("-1", 5),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 5),
        ],
    )
    def test_a_receiver_that_asks_for_time(
        self, runtime: FakeRuntime, web: WebServer, header: str, pause: float
    ) -> None:
        subscribe(runtime, f"{web.url}/hook")
        web.routes["/hook"] = status(429, Retry_After=header)
        end(runtime.sessions, make_job(runtime.sessions))
        deliver.run(runtime)
        (row,) = deliveries_of(runtime.sessions)
        assert (row.next_at - datetime.now(UTC)).total_seconds() == pytest.approx(pause, rel=0.11, abs=2)

    def test_a_receiver_that_hangs(self, make_runtime: Callable[..., FakeRuntime], web: WebServer) -> None:
        runtime = make_runtime(webhook_private=PRIVATE, webhook_seconds=0.3)
        subscribe(runtime, f"{web.url}/hook")
        web.routes["/hook"] = trickling(0.05, head=True)
        end(runtime.sessions, make_job(runtime.sessions))
        deliver.run(runtime)
        (row,) = deliveries_of(runtime.sessions)
        assert (row.state, row.attempts[0]["error"]) == (DeliveryState.WAITING, "no answer within 0.3 s")

    def test_an_answer_that_never_ends(self, make_runtime: Callable[..., FakeRuntime], web: WebServer) -> None:
        """Its head says all that counts."""
        runtime = make_runtime(webhook_private=PRIVATE, webhook_seconds=5)
        subscribe(runtime, f"{web.url}/hook")
        web.routes["/hook"] = trickling(0.05)
        end(runtime.sessions, make_job(runtime.sessions))
        deliver.run(runtime)
        (row,) = deliveries_of(runtime.sessions)
        assert (row.state, row.attempts[0]["seconds"] < 4) == (DeliveryState.DELIVERED, True)

    def test_a_redirect_is_not_followed(self, runtime: FakeRuntime, web: WebServer) -> None:
        subscribe(runtime, f"{web.url}/hook")
        web.routes |= {"/hook": redirect(f"{web.url}/other", 307), "/other": whole(b"")}
        end(runtime.sessions, make_job(runtime.sessions))
        deliver.run(runtime)
        (row,) = deliveries_of(runtime.sessions)
        assert (web.paths, row.state, row.attempts[0]["status"]) == (["/hook"], DeliveryState.WAITING, 307)

    def test_nobody_listens(self, runtime: FakeRuntime) -> None:
        subscribe(runtime, "http://127.0.0.1:9/")
        end(runtime.sessions, make_job(runtime.sessions))
        deliver.run(runtime)
        (row,) = deliveries_of(runtime.sessions)
        assert row.state == DeliveryState.WAITING
        assert "refused" in row.attempts[0]["error"].lower()

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1:{port}/hook",
            "http://localhost:{port}/hook",
            "http://[::1]:{port}/hook",
            "http://[::ffff:127.0.0.1]:{port}/hook",
            "http://2130706433:{port}/hook",
            "http://169.254.169.254/latest/meta-data",
            "http://10.0.0.1/",
        ],
    )
    def test_private_addresses_are_not_connected_to(
        self, make_runtime: Callable[..., FakeRuntime], web: WebServer, url: str
    ) -> None:
        runtime = make_runtime()
        subscribe(runtime, url.format(port=web.url.rpartition(":")[2]))
        end(runtime.sessions, make_job(runtime.sessions))
        assert deliver.run(runtime) == 1
        (row,) = deliveries_of(runtime.sessions)
        assert (row.state, web.asked) == (DeliveryState.FAILED, [])
        assert row.attempts[0]["error"].startswith("url_not_allowed: ")


class TestOrder:
    def test_a_later_event_of_a_job_waits_for_the_earlier_one(self, runtime: FakeRuntime, web: WebServer) -> None:
        _, secret = subscribe(runtime, f"{web.url}/hook")
        web.routes["/hook"] = in_turn(status(500), status(200), status(200), status(200))
        first, other = make_job(runtime.sessions), make_job(runtime.sessions)
        end(runtime.sessions, first, JobStatus.CANCELLED)
        assert deliver.run(runtime) == 1
        end(runtime.sessions, first, JobStatus.QUEUED)
        with job_transaction(runtime.sessions, first) as tx:
            tx.emit(EventType.SPEAKERS_ASSIGNED, {})
        end(runtime.sessions, other)
        assert deliver.run(runtime) == 1, "that of the other job"
        skip_pauses(runtime.sessions)
        assert deliver.run(runtime) == 2
        told = [(message["type"], message["data"]["id"]) for message in received(web, secret)]
        assert told == [
            ("job.cancelled", str(first)),
            ("job.cancelled", str(other)),
            ("job.cancelled", str(first)),
            ("speakers.assigned", str(first)),
        ]

    def test_but_not_for_ever(self, runtime: FakeRuntime, web: WebServer) -> None:
        subscribe(runtime, f"{web.url}/hook")
        web.routes["/hook"] = in_turn(status(500), status(200))
        job_id = make_job(runtime.sessions)
        end(runtime.sessions, job_id)
        deliver.run(runtime)
        with runtime.sessions.begin() as session:
            session.execute(text("UPDATE webhook_deliveries SET created_at = created_at - interval '61 min'"))
        end(runtime.sessions, job_id)
        assert deliver.run(runtime) == 1
        states = [row.state for row in deliveries_of(runtime.sessions)]
        assert states == [DeliveryState.WAITING, DeliveryState.DELIVERED]


class TestShares:
    def test_a_slow_receiver_takes_few_places(self, runtime: FakeRuntime) -> None:
        """Two of an endpoint, four of a tenant, and whoever has least under way comes first."""
        for path in ("a", "b", "c"):
            subscribe(runtime, f"https://slow.example/{path}", tenant="slow")
        for _ in range(3):
            end(runtime.sessions, make_job(runtime.sessions, tenant="slow"))
        for path in ("a", "b", "c"):
            subscribe(runtime, f"https://quick.example/{path}", tenant="quick")
        end(runtime.sessions, make_job(runtime.sessions, tenant="quick"))
        claims = []
        while (found := deliveries.claim(runtime.sessions, 60)) is not None:
            claims.append(found)
        assert [one.tenant for one in claims] == ["slow", "quick"] * 3 + ["slow"]
        assert max(sum(one.url == each.url for one in claims) for each in claims) == 2

    def test_addresses_of_jobs_are_counted_together(self, runtime: FakeRuntime) -> None:
        for number in range(4):
            own = {"url": f"https://slow.example/{number}?job={number}"}
            end(runtime.sessions, make_job(runtime.sessions, options={"webhook": own}))
        claim(runtime)
        claim(runtime)
        assert deliveries.claim(runtime.sessions, 60) is None

    def test_workers_at_once_claim_each_delivery_once(self, runtime: FakeRuntime, web: WebServer) -> None:
        subscribe(runtime, f"{web.url}/hook")
        subscribe(runtime, f"{web.url}/hook")
        for _ in range(10):
            end(runtime.sessions, make_job(runtime.sessions))
        threads = [threading.Thread(target=deliver.run, args=[runtime]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(ids(web)), len(set(ids(web)))) == (20, 20)

    def test_what_a_dead_receiver_leaves_waiting_makes_no_claim_slow(self, runtime: FakeRuntime) -> None:
        webhook_id, _ = subscribe(runtime, "https://dead.example/")
        many = """
            INSERT INTO webhook_deliveries (tenant, webhook_id, endpoint, job_id, seq, type, body)
            SELECT 'default', :id, :id, gen_random_uuid(), 1, 'job.completed', '{}' FROM generate_series(1, 20000)
        """
        with runtime.sessions.begin() as session:
            session.execute(text(many), {"id": webhook_id})
        with runtime.sessions() as session:
            session.connection(execution_options={"isolation_level": "AUTOCOMMIT"}).execute(
                text("VACUUM ANALYZE webhook_deliveries")
            )
        claim(runtime)
        with runtime.sessions() as session:
            explained = text(f"EXPLAIN (ANALYZE, BUFFERS OFF) {deliveries.CLAIM_QUERY.text}")
            plan = "\n".join(session.scalars(explained, deliveries.CLAIM_PARAMETERS))
        assert "Seq Scan" not in plan, plan
        assert "Sort Method: external" not in plan, plan


class TestLost:
    def test_a_worker_killed_before_it_commits(
        self, runtime: FakeRuntime, settings: Settings, web: WebServer
    ) -> None:
        """The receiver has the message; nobody knows. It gets it once more, under the same id."""
        _, secret = subscribe(runtime, f"{web.url}/hook")
        end(runtime.sessions, make_job(runtime.sessions))
        settings = settings.model_copy(update={"webhook_private": PRIVATE})
        code = (
            "from tasks.runtime import get_runtime; from tasks.webhooks import deliver; deliver.run(get_runtime())"
        )
        worker: list[subprocess.Popen[bytes]] = []

        def kill(handler: Handler) -> None:
            until(lambda: worker)
            os.kill(worker[0].pid, signal.SIGKILL)

        web.routes["/hook"] = in_turn(kill, status(200))
        worker.append(subprocess.Popen([sys.executable, "-c", code], env=os.environ | environment_of(settings)))
        assert worker[0].wait() == -signal.SIGKILL
        (row,) = deliveries_of(runtime.sessions)
        assert (row.state, row.attempt, row.attempts) == (DeliveryState.WAITING, 1, [])
        assert deliver.run(runtime) == 0, "as long as the lease lasts"
        skip_pauses(runtime.sessions)
        assert deliver.run(runtime) == 1
        assert ids(web) == [str(row.id)] * 2
        assert len(received(web, secret)) == 2

    def test_one_that_kills_every_worker_is_given_up(self, runtime: FakeRuntime, web: WebServer) -> None:
        subscribe(runtime, f"{web.url}/hook")
        end(runtime.sessions, make_job(runtime.sessions))
        for _ in range(len(deliver.DELAYS) + 1):
            claim(runtime)
            skip_pauses(runtime.sessions)
        deliver.run(runtime)
        (row,) = deliveries_of(runtime.sessions)
        assert (row.state, web.asked) == (DeliveryState.FAILED, [])

    def test_a_late_worker_changes_nothing(self, runtime: FakeRuntime, web: WebServer) -> None:
        subscribe(runtime, f"{web.url}/hook")
        end(runtime.sessions, make_job(runtime.sessions))
        late = claim(runtime)
        skip_pauses(runtime.sessions)
        web.routes["/hook"] = in_turn(status(500), status(200))
        deliver.run(runtime)
        deliver.deliver(runtime, late)
        (row,) = deliveries_of(runtime.sessions)
        assert (row.state, len(row.attempts)) == (DeliveryState.WAITING, 1)

    def test_without_redis(self, make_runtime: Callable[..., FakeRuntime], web: WebServer) -> None:
        """No hint comes through: the watchdog of a worker of the queue finds what is due."""
        runtime = make_runtime(
            webhook_private=PRIVATE, redis_url="redis://127.0.0.1:1/0", heal_seconds=0.05, deaf_seconds=0.1
        )
        subscribe(runtime, f"{web.url}/hook")
        end(runtime.sessions, make_job(runtime.sessions))
        watchdog = Watchdog(runtime, "io")
        watchdog.start()
        until(lambda: deliveries_of(runtime.sessions)[0].state == DeliveryState.DELIVERED)
        watchdog.stop()
        assert len(web.asked) == 1


class TestHealth:
    def test_410_disables(self, runtime: FakeRuntime, web: WebServer) -> None:
        webhook_id, _ = subscribe(runtime, f"{web.url}/hook")
        web.routes["/hook"] = status(410)
        jobs = [make_job(runtime.sessions) for _ in range(2)]
        for job_id in jobs:
            end(runtime.sessions, job_id)
        assert deliver.run(runtime) == 2
        assert len(web.asked) == 1, "what waits is given up without being sent"
        assert {row.state for row in deliveries_of(runtime.sessions)} == {DeliveryState.FAILED}
        with runtime.sessions() as session:
            webhook = session.get_one(Webhook, webhook_id)
            assert (webhook.disabled_at is not None, webhook.disabled_reason) == (True, "gone")
            noted = session.scalars(select(AuditEntry.action).where(AuditEntry.target == str(webhook_id))).all()
        assert noted == ["disable webhook: gone"]
        end(runtime.sessions, make_job(runtime.sessions))
        assert len(deliveries_of(runtime.sessions)) == 2, "nothing is kept for it"

    @pytest.mark.parametrize(("days", "reason"), [(4, None), (6, "failing")])
    def test_days_of_failures_disable(
        self, runtime: FakeRuntime, web: WebServer, days: float, reason: str | None
    ) -> None:
        webhook_id, _ = subscribe(runtime, f"{web.url}/hook")
        web.routes["/hook"] = status(500)
        end(runtime.sessions, make_job(runtime.sessions))
        while deliver.run(runtime):
            with runtime.sessions.begin() as session:
                values = {"failing_since": datetime.now(UTC) - timedelta(days=days)}
                assert session.get_one(Webhook, webhook_id).disabled_at is None or reason
                session.execute(update(Webhook).values(values))
            skip_pauses(runtime.sessions)
        with runtime.sessions() as session:
            assert session.get_one(Webhook, webhook_id).disabled_reason == reason

    def test_a_test_is_tried_once_and_held_against_nobody(self, runtime: FakeRuntime, web: WebServer) -> None:
        webhook_id, _ = subscribe(runtime, f"{web.url}/hook")
        web.routes["/hook"] = status(500)
        with runtime.sessions.begin() as session:
            outbox.add_test(session, session.get_one(Webhook, webhook_id))
        deliver.run(runtime)
        (row,) = deliveries_of(runtime.sessions)
        with runtime.sessions() as session:
            assert session.get_one(Webhook, webhook_id).failing_since is None
        assert row.state == DeliveryState.FAILED

    def test_one_that_is_deleted_while_it_is_sent_to(self, runtime: FakeRuntime, web: WebServer) -> None:
        subscribe(runtime, f"{web.url}/hook")
        end(runtime.sessions, make_job(runtime.sessions))

        def delete(handler: Handler) -> None:
            with runtime.sessions.begin() as session:
                session.execute(text("DELETE FROM webhooks"))
            handler.answer(200)

        web.routes["/hook"] = delete
        assert deliver.run(runtime) == 1
        assert deliveries_of(runtime.sessions) == []


class TestSecrets:
    def test_for_a_while_both_sign(self, runtime: FakeRuntime, web: WebServer) -> None:
        webhook_id, old = subscribe(runtime, f"{web.url}/hook")
        with runtime.sessions.begin() as session:
            new = signing.rotate(session, runtime.secrets, "default", webhook_id, grace_seconds=60)
        end(runtime.sessions, make_job(runtime.sessions))
        deliver.run(runtime)
        ((_, headers),) = web.asked
        assert len(headers["webhook-signature"].split(" ")) == 2
        assert received(web, old) == received(web, new)
        with runtime.sessions.begin() as session:
            session.execute(text("UPDATE webhook_secrets SET ends_at = now() WHERE ends_at IS NOT NULL"))
        end(runtime.sessions, make_job(runtime.sessions))
        deliver.run(runtime)
        assert is_signed(web.asked[1][1], web.bodies[1], new)
        assert not is_signed(web.asked[1][1], web.bodies[1], old)

    def test_they_are_sealed_and_a_worker_without_the_key_sends_nothing(
        self, make_runtime: Callable[..., FakeRuntime], web: WebServer
    ) -> None:
        runtime = make_runtime(webhook_private=PRIVATE, secret_key="dDPJKyJVEQSPLRKk1bMJhbSxfD5lYLFwXA_b3xW0b0k=")
        _, secret = subscribe(runtime, f"{web.url}/hook")
        with runtime.sessions() as session:
            stored = session.scalars(select(WebhookSecret.secret)).one()
        assert secret.encode() not in stored
        end(runtime.sessions, make_job(runtime.sessions))
        deliver.run(make_runtime(webhook_private=PRIVATE))
        (row,) = deliveries_of(runtime.sessions)
        assert (row.state, web.asked) == (DeliveryState.WAITING, [])
        skip_pauses(runtime.sessions)
        deliver.run(runtime)
        assert len(received(web, secret)) == 1


def test_ended_deliveries_are_kept_for_some_days(runtime: FakeRuntime, web: WebServer) -> None:
    subscribe(runtime, f"{web.url}/hook")
    for _ in range(3):
        end(runtime.sessions, make_job(runtime.sessions))
    deliver.run(runtime)
    aged = "UPDATE webhook_deliveries SET ended_at = now() - interval '31 days' WHERE id = :id"
    old, young, waiting = deliveries_of(runtime.sessions)
    with runtime.sessions.begin() as session:
        session.execute(text(aged), {"id": old.id})
        deliveries.redeliver(session, "default", waiting.id)
    delete_old_deliveries(runtime)
    assert {row.id for row in deliveries_of(runtime.sessions)} == {young.id, waiting.id}


@pytest.mark.parametrize(
    ("code", "is_success"), [(200, True), (204, True), (302, False), (404, False), (None, False)]
)
def test_what_is_a_success(code: int | None, is_success: bool) -> None:
    assert Answer(code).is_success == is_success
