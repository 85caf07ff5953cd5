"""The event bus: publishes committed events on one Redis channel, at most once. Postgres keeps them.

Workers say here too that they are there, which only those hear who want to know how many there are.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from db.models import EventType
from db.queue.transaction import LoggedEvent
from db.settings import Settings

CHANNEL = "longhand.events"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Frame:
    """A server-sent event: ``body`` is encoded once for all subscribers."""

    job_id: uuid.UUID
    seq: int
    type: EventType
    body: bytes

    @property
    def is_last(self) -> bool:
        """Whether this is the job's last event."""
        return self.type in (EventType.JOB_COMPLETED, EventType.JOB_FAILED, EventType.JOB_CANCELLED)


def encode_frame(event: LoggedEvent) -> Frame:
    """The server-sent event of a logged one."""
    body = f"id: {event.seq}\nevent: {event.type}\ndata: {event.payload()}\n\n".encode()
    return Frame(event.job_id, event.seq, event.type, body)


def encode_message(event: LoggedEvent) -> str:
    """The message on the bus."""
    return json.dumps(
        {"job": str(event.job_id), "seq": event.seq, "type": event.type, "body": encode_frame(event).body.decode()}
    )


def decode_message(message: bytes) -> Frame:
    data = json.loads(message)
    return Frame(uuid.UUID(data["job"]), data["seq"], EventType(data["type"]), data["body"].encode())


WORKERS = "longhand.workers"
"""A hash: of each worker its queue, and until when its word counts, by the clock of Redis."""

PRESENT_SECONDS = 30.0
"""So long a worker that says nothing counts as there, at least."""

BACKOFF_SECONDS = 5.0
"""Pause in publishing after a failure, since every attempt waits for its timeout."""


class Bus:
    """Publishes events. No event is lost while Redis is down: streams catch up from Postgres."""

    def __init__(self, settings: Settings) -> None:
        self.redis = Redis.from_url(
            settings.redis_url,
            socket_timeout=3,
            socket_connect_timeout=3,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 1),
        )
        self._paused_until = 0.0

    def publish(self, events: Iterable[LoggedEvent]) -> None:
        messages = [encode_message(event) for event in events]
        if not messages or time.monotonic() < self._paused_until:
            return
        try:
            with self.redis.pipeline(transaction=False) as pipeline:
                for message in messages:
                    pipeline.publish(CHANNEL, message)
                pipeline.execute()
        except RedisError as error:
            logger.warning("could not publish %d events: %s", len(messages), error)
            self._paused_until = time.monotonic() + BACKOFF_SECONDS

    def count_hints(self, queue: str) -> int:
        """How many hints are in a queue. Raises RedisError."""
        return int(self.redis.llen(queue))

    def tell_presence(self, worker: str, queue: str, seconds: float) -> None:
        """Say that a worker takes steps of a queue, and will again within ``seconds``. Raises RedisError."""
        until = self._now() + max(PRESENT_SECONDS, 3 * seconds)
        self.redis.hset(WORKERS, worker, json.dumps({"queue": queue, "until": until}))

    def tell_absence(self, worker: str) -> None:
        """Say that it takes none any more. Raises RedisError."""
        self.redis.hdel(WORKERS, worker)

    def count_workers(self) -> Counter[str]:
        """How many workers are there by their last word, by queue. Raises RedisError."""
        now = self._now()
        told = {worker: json.loads(word) for worker, word in self.redis.hgetall(WORKERS).items()}
        if gone := [worker for worker, word in told.items() if word["until"] < now]:
            self.redis.hdel(WORKERS, *gone)
        return Counter(word["queue"] for word in told.values() if word["until"] >= now)

    def _now(self) -> int:
        seconds, _ = self.redis.time()
        return int(seconds)

    def ping(self) -> None:
        self.redis.ping()
