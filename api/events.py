"""Live events: one Redis subscription per process, fanned out to any number of streams.

A stream registers first, replays the log after the number it was given, then passes live events on.
Publishing is at most once, so numbers are compared: a jump, a lost connection or a silent bus all lead back
to the log. A reader too slow for its queue is led there too, and misses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager

from anyio import CapacityLimiter, to_thread
from opentelemetry import trace
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from db.events import event_log
from db.events.bus import CHANNEL, Frame, decode_message, encode_frame
from db.models import Job
from db.session import Sessions
from db.settings import Settings
from db.telemetry import metrics, tracing

logger = logging.getLogger(__name__)

QUEUE_SIZE = 256
"""Live events kept for a stream that falls behind."""

POLL_SECONDS = 3.0
"""Between two comparisons of the streams' numbers with Postgres."""

PAGE = 1000
HEARTBEAT = b": keep-alive\n\n"


class Subscription:
    """One stream's place in a job's events. ``None`` in the queue means: look at the log."""

    def __init__(self, after: int, *, until_deleted: bool) -> None:
        self.last_seq, self.until_deleted = after, until_deleted
        self.queue: asyncio.Queue[Frame | None] = asyncio.Queue(QUEUE_SIZE)

    def offer(self, event: Frame | None) -> None:
        if self.queue.full():
            while not self.queue.empty():
                self.queue.get_nowait()
            event = None
        self.queue.put_nowait(event)


class EventResponse(StreamingResponse):
    """A stream of events whose reader is cut off when it takes nothing for a while; it resumes by id."""

    def __init__(
        self,
        events: AsyncGenerator[bytes],
        stall_seconds: float,
        slot: AbstractAsyncContextManager[None],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """``slot`` is held as long as the stream is open. It may raise Problem, which is the answer then."""
        super().__init__(
            events,
            media_type="text/event-stream",
            # proxies must neither buffer nor cache events
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})},
        )
        self._events, self._stall_seconds, self._slot = events, stall_seconds, slot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._slot:
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        async def send_soon(message: Message) -> None:
            async with asyncio.timeout(self._stall_seconds):
                await send(message)

        try:
            await super().stream_response(send_soon)
        except TimeoutError:
            logger.info("cut off a reader that took nothing for %g s", self._stall_seconds)
        finally:
            await self._events.aclose()


async def as_long_as(holds: Callable[[], bool], events: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The events until ``holds`` is false; heartbeats have it asked of an idle stream too."""
    async with contextlib.aclosing(events):
        async for body in events:
            if not holds():
                return
            yield body


class Hub:
    """The streams of one API process."""

    def __init__(self, settings: Settings, sessions: Sessions) -> None:
        self._settings, self._sessions = settings, sessions
        self._streams: dict[uuid.UUID, set[Subscription]] = defaultdict(set)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        # threads of its own: replays never wait behind uploads
        self._threads = CapacityLimiter(4)
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._poll_log())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def stream(self, job_id: uuid.UUID, after: int, *, until_deleted: bool = False) -> AsyncGenerator[bytes]:
        """The job's events numbered above ``after``, encoded, until its last one, or only until its deletion."""
        subscription = Subscription(after, until_deleted=until_deleted)
        self._streams[job_id].add(subscription)
        metrics.streams.inc()
        span: trace.Span = trace.INVALID_SPAN
        try:
            span = await self._begin_span(job_id, after)
            async with contextlib.aclosing(self._events(job_id, subscription)) as events:
                async for body in events:
                    yield body
        finally:
            span.set_attribute("last_event", subscription.last_seq)
            span.end()
            metrics.streams.dec()
            self._streams[job_id].discard(subscription)
            if not self._streams[job_id]:
                del self._streams[job_id]

    async def _begin_span(self, job_id: uuid.UUID, after: int) -> trace.Span:
        """A span in the job's trace, to the last byte, where the request is traced."""
        request = trace.get_current_span()
        if not request.is_recording():
            return trace.INVALID_SPAN
        parent = await to_thread.run_sync(self._trace_of, job_id, limiter=self._threads)
        return tracing.tracer.start_span(
            "event stream",
            tracing.context_of(parent) if parent else None,
            attributes={"job_id": str(job_id), "after": after},
            links=tracing.link_to(request),
        )

    def _trace_of(self, job_id: uuid.UUID) -> str | None:
        with self._sessions() as session:
            return session.scalar(select(Job.trace).where(Job.id == job_id))

    async def _events(self, job_id: uuid.UUID, subscription: Subscription) -> AsyncGenerator[bytes]:
        after, is_counted = subscription.last_seq, False
        while True:
            ended, page = await to_thread.run_sync(self._read, job_id, subscription, limiter=self._threads)
            for event in page:
                subscription.last_seq = event.seq
                yield event.body
            if len(page) == PAGE:
                continue
            if not is_counted:
                metrics.replayed_events.observe(subscription.last_seq - after)
                is_counted = True
            if ended:
                return
            async for body in self._live(subscription):
                yield body

    async def _live(self, subscription: Subscription) -> AsyncIterator[bytes]:
        """Events from the bus while their numbers follow on, and heartbeats; ends when the log has to be read."""
        while True:
            try:
                async with asyncio.timeout(self._settings.heartbeat_seconds):
                    event = await subscription.queue.get()
            except TimeoutError:
                yield HEARTBEAT
                continue
            if event is None or event.seq > subscription.last_seq + 1:
                return
            if event.seq <= subscription.last_seq:
                continue
            if event.is_last and not subscription.until_deleted:
                # the replay that follows repeats it and ends the stream
                return
            subscription.last_seq = event.seq
            yield event.body

    def _read(self, job_id: uuid.UUID, subscription: Subscription) -> tuple[bool, list[Frame]]:
        """Whether the job has ended or is gone; then a page of its log, which so includes the last event."""
        with self._sessions() as session:
            ended = event_log.has_ended(session, job_id, until_deleted=subscription.until_deleted)
            events = event_log.after(session, job_id, subscription.last_seq, PAGE)
            return ended, [encode_frame(event) for event in events]

    async def _newest_numbers(self, job_ids: list[uuid.UUID]) -> dict[uuid.UUID, int]:
        def query() -> dict[uuid.UUID, int]:
            with self._sessions() as session:
                return event_log.newest_numbers(session, job_ids)

        return await to_thread.run_sync(query, limiter=self._threads)

    async def _listen(self) -> None:
        """Forward events from Redis for ever; after every reconnection all streams read the log."""
        while True:
            try:
                redis = Redis.from_url(
                    self._settings.redis_url,
                    socket_timeout=10,
                    socket_connect_timeout=3,
                    socket_keepalive=True,
                    health_check_interval=5,
                )
                async with redis, redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(CHANNEL)
                    self._resync_all()
                    while True:
                        message = await pubsub.get_message(timeout=5)
                        if message is not None:
                            self._dispatch(message["data"])
            except (RedisError, OSError) as error:
                logger.warning("event bus: %s", error)
                await asyncio.sleep(1)

    def _dispatch(self, message: bytes) -> None:
        try:
            event = decode_message(message)
        except (ValueError, KeyError, TypeError):
            logger.warning("event bus: not an event: %.80r", message)
            return
        for subscription in self._streams.get(event.job_id, ()):
            subscription.offer(event)

    def _resync_all(self) -> None:
        for subscriptions in self._streams.values():
            for subscription in subscriptions:
                subscription.offer(None)

    async def _poll_log(self) -> None:
        """Detect events that the bus lost, with one query for all streams of the process."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            job_ids = list(self._streams)
            if not job_ids:
                continue
            try:
                numbers = await self._newest_numbers(job_ids)
            except SQLAlchemyError as error:
                logger.warning("could not compare event numbers: %s", error)
                continue
            for job_id in job_ids:
                number = numbers.get(job_id)
                for subscription in self._streams.get(job_id, ()):
                    if subscription.queue.empty() and (number is None or number > subscription.last_seq):
                        subscription.offer(None)
