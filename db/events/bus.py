"""The event bus: publishes committed events on one Redis channel, at most once. Postgres keeps them."""

from __future__ import annotations

import json
import logging
import time
import uuid
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

    def ping(self) -> None:
        self.redis.ping()
