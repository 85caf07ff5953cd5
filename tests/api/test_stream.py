"""Server-sent events: every number once, in order, whatever happens to the connection or to Redis."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from db.events.bus import Bus
from db.models import EventType, JobStatus
from db.queue.transaction import job_transaction
from db.session import Sessions
from db.settings import Settings
from tests.jobs import make_job


def numbers(
    client: httpx.Client, job_id: uuid.UUID, stop_at: int | None = None, last: str | None = None
) -> Iterator[int]:
    headers = {"Last-Event-ID": last} if last else {}
    with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            if line.startswith("id: "):
                yield int(line[4:])
                if int(line[4:]) == stop_at:
                    return


def emit(sessions: Sessions, job_id: uuid.UUID, count: int, bus: Bus | None = None) -> None:
    for _ in range(count):
        with job_transaction(sessions, job_id) as tx:
            tx.emit(EventType.JOB_PROGRESS, {})
        if bus is not None:
            bus.publish(tx.events)


def end(sessions: Sessions, job_id: uuid.UUID, bus: Bus | None = None) -> None:
    with job_transaction(sessions, job_id) as tx:
        tx.job.status = JobStatus.CANCELLED
        tx.emit(EventType.JOB_CANCELLED, {})
    if bus is not None:
        bus.publish(tx.events)


def test_replay_then_live_without_gap_or_repeat(
    client: httpx.Client, sessions: Sessions, settings: Settings
) -> None:
    job_id, bus = make_job(sessions), Bus(settings)
    emit(sessions, job_id, 20, bus)
    stream = numbers(client, job_id)
    first = [next(stream) for _ in range(3)]

    def write() -> None:
        emit(sessions, job_id, 200, bus)
        end(sessions, job_id, bus)

    writer = threading.Thread(target=write)
    writer.start()
    assert first + list(stream) == list(range(1, 223))
    writer.join()


def test_resuming_after_an_id(client: httpx.Client, sessions: Sessions, settings: Settings) -> None:
    job_id, bus = make_job(sessions), Bus(settings)
    emit(sessions, job_id, 9)
    seen = list(numbers(client, job_id, stop_at=4))
    end(sessions, job_id, bus)
    assert seen + list(numbers(client, job_id, last="4")) == list(range(1, 12))
    by_query = client.get(f"/v1/jobs/{job_id}/events?after=9").text
    assert [line for line in by_query.splitlines() if line.startswith("id: ")] == ["id: 10", "id: 11"]


def test_what_redis_loses_comes_from_the_log(client: httpx.Client, sessions: Sessions) -> None:
    job_id = make_job(sessions)
    stream = numbers(client, job_id)
    assert next(stream) == 1
    emit(sessions, job_id, 5)  # committed, never published
    end(sessions, job_id)
    assert list(stream) == list(range(2, 8))


def test_a_stream_ends_when_its_job_is_deleted(client: httpx.Client, sessions: Sessions) -> None:
    job_id = make_job(sessions)
    stream = numbers(client, job_id)
    assert next(stream) == 1
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert list(stream) == [2]


def test_an_ended_job_with_nothing_left_says_not_to_reconnect(client: httpx.Client, sessions: Sessions) -> None:
    job_id = make_job(sessions)
    client.post(f"/v1/jobs/{job_id}/cancel")
    answer = client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "2"})
    assert answer.status_code == 204


@pytest.mark.parametrize("given", ["abc", "-1", "1.5", "2", "99999999999999999999", "١"])
def test_malformed_ids(client: httpx.Client, sessions: Sessions, given: str) -> None:
    job_id = make_job(sessions)
    answer = client.get(f"/v1/jobs/{job_id}/events", params={"after": given})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_last_event_id")


class TestHeartbeat:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"heartbeat_seconds": 0.2})

    def test_an_idle_stream_is_kept_alive(self, client: httpx.Client, sessions: Sessions) -> None:
        job_id = make_job(sessions)
        with client.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
            assert answer.headers["x-accel-buffering"] == "no"
            assert any(line == ": keep-alive" for line in answer.iter_lines())


def test_a_stream_may_go_on_behind_the_end(client: httpx.Client, sessions: Sessions, settings: Settings) -> None:
    job_id, bus = make_job(sessions), Bus(settings)
    end(sessions, job_id)
    url = f"/v1/jobs/{job_id}/events?after=2"
    assert client.get(url).status_code == 204
    with client.stream("GET", f"{url}&until=deleted") as answer:
        lines = (line for line in answer.iter_lines() if line.startswith("id: "))
        for number in (3, 4):
            emit(sessions, job_id, 1, bus)
            assert next(lines) == f"id: {number}"
        with job_transaction(sessions, job_id) as tx:
            tx.job.deleted_at = datetime.now(UTC)
        assert list(lines) == []
