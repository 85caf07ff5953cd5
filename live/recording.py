"""What a live session leaves: pieces of its sound, chunks of its job, finals, in the order in which they come.

One task writes, in threads, and tries again for as long as a server is away; who adds sound meanwhile waits once
much of it is unwritten. So what is written is a beginning of the session, without gaps, and whoever is told a
final can rely on the sound up to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta

import numpy as np
from anyio import to_thread
from botocore.exceptions import BotoCoreError, ClientError
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db import live
from db.access import quotas
from db.logs import describe
from db.models import Chunk, Job, Json, LivePiece
from db.objects.storage import StorageError, job_prefix
from db.queue.transaction import JobGone, JobTransaction, job_transaction
from live import metrics
from live.audio import Pcm, to_samples
from live.services import Services
from speech.audio import flac
from speech.audio.chunking import Stretches
from speech.engines import SAMPLE_RATE, Samples
from speech.text.timeline import Timeline
from tasks import flow

logger = logging.getLogger(__name__)

MAX_UNWRITTEN_SECONDS = 60.0
"""Of sound: who adds more waits."""

RETRY_SECONDS = 1.0
AWAY = (BotoCoreError, ClientError, OperationalError, InterfaceError, InternalError, PoolTimeout)
"""What passes when a server is back."""

Write = Callable[[], Awaitable[None]]


class RecordingStopped(Exception):
    """No more can be written. ``code`` and message are what the client is told."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Recording:
    """Of one session, whose writer this is. For one event loop."""

    def __init__(
        self,
        services: Services,
        tenant: str,
        flow_id: str,
        position: live.Position,
        on_stored: Callable[[], None],
    ) -> None:
        """``on_stored`` is called whenever more is written."""
        self._on_stored = on_stored
        self._services, self._sessions = services, services.for_tenant(tenant)
        self._flow_id, self._position = flow_id, position
        self.job_id = position.job_id
        self._pending: list[Pcm] = []
        self._pending_samples = 0
        self.received = position.received
        """Samples that came."""
        self.stored = position.received
        """Samples that are written."""
        self._chunks = position.chunks
        self._writes: asyncio.Queue[Write] = asyncio.Queue()
        self._room = asyncio.Event()
        self._room.set()
        self._touched = time.monotonic()
        self.stopped: RecordingStopped | None = None
        self._task = asyncio.create_task(self._run())

    @property
    def _patience(self) -> timedelta:
        """How long after a sign of life the session ends by itself."""
        return patience(self._services)

    async def wait_for_room(self) -> None:
        """Raises RecordingStopped."""
        await self._room.wait()
        self._check()

    def add(self, pcm: Pcm) -> None:
        self._pending.append(pcm)
        self._pending_samples += len(pcm)
        self.received += len(pcm)
        if self.received - self.stored > MAX_UNWRITTEN_SECONDS * SAMPLE_RATE:
            self._room.clear()
        self._cut_piece_when_due()

    def _cut_piece_when_due(self) -> None:
        """Where writing is slow, pieces become longer instead of more."""
        all_written = self.stored == self.received - self._pending_samples
        if all_written and self._pending_samples >= self._services.settings.live_piece_seconds * SAMPLE_RATE:
            self.cut_piece()

    def cut_piece(self) -> None:
        """Have all that came written."""
        if not self._pending_samples:
            return
        pcm = np.concatenate(self._pending)
        start = self.received - len(pcm)
        self._pending, self._pending_samples = [], 0
        self._writes.put_nowait(lambda: self._store_piece(start, pcm))

    def add_chunk(self, stretches: Stretches, samples: Samples) -> None:
        index, self._chunks = self._chunks, self._chunks + 1
        self._writes.put_nowait(lambda: self._store_chunk(index, stretches, samples))

    def add_final(self, seq: int, end: int, content: Json, then: Callable[[], None]) -> None:
        """``then`` is called once it is written, with the sound up to there."""
        if end > self.received - self._pending_samples:
            self.cut_piece()

        async def write() -> None:
            await self._in_thread(lambda: self._insert_final(seq, end, content))
            then()

        self._writes.put_nowait(write)

    def set_language(self, language: str) -> None:
        self._writes.put_nowait(lambda: self._change(lambda tx: _set_language(tx.job, language)))

    async def touch(self) -> None:
        """Put the end of a session off that sends nothing."""
        if time.monotonic() - self._touched > self._patience.total_seconds() / 4:
            self._touched = time.monotonic()
            self._writes.put_nowait(lambda: self._in_thread(self._keep))

    async def finish(self) -> None:
        """Write what is left, and have the recording put together. Raises RecordingStopped."""
        self.cut_piece()
        self._writes.put_nowait(lambda: self._change(lambda tx: live.end(tx, self._position.writer)))
        await self.settle()

    async def settle(self) -> None:
        """Wait until all is written. Raises RecordingStopped."""
        await self._writes.join()
        self._check()

    async def close(self) -> None:
        """Stop writing."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def _check(self) -> None:
        if self.stopped is not None:
            raise self.stopped

    async def _run(self) -> None:
        while True:
            write = await self._writes.get()
            try:
                if self.stopped is None:
                    await self._attempt(write)
            finally:
                self._writes.task_done()

    async def _attempt(self, write: Write) -> None:
        """Until it is done, or can never be."""
        while True:
            try:
                return await write()
            except AWAY as error:
                logger.warning("flow %s: a server is away: %s", self._flow_id, describe(error))
                await asyncio.sleep(RETRY_SECONDS)
            except (live.SessionOver, JobGone):
                return self._stop("session_over", "The session has ended, or its job was cancelled or deleted.")
            except live.WriterReplaced:
                return self._stop("taken_up", "Another connection has taken this session up.")
            except quotas.QuotaExceeded as error:
                return self._stop(error.code, str(error))
            except Exception as error:
                logger.exception("flow %s: could not write: %s", self._flow_id, describe(error))
                return self._stop("internal_error", "The server failed to record; its log has the cause.")

    def _stop(self, code: str, message: str) -> None:
        self.stopped = RecordingStopped(code, message)
        self._room.set()

    async def _in_thread(self, call: Callable[[], None]) -> None:
        await to_thread.run_sync(call, limiter=self._services.threads)

    async def _change(self, change: Callable[[JobTransaction], None]) -> None:
        await self._in_thread(lambda: self._commit(change))

    def _commit(self, change: Callable[[JobTransaction], None]) -> None:
        """Change the job under its lock, and announce it. Raises JobGone, SessionOver, WriterReplaced."""
        with job_transaction(self._sessions, self.job_id) as tx:
            live.keep(tx.session, self.job_id, self._position.writer, self._patience)
            change(tx)
        self._services.announce(tx)

    @contextlib.contextmanager
    def _put(self, key: str, samples: Samples) -> Iterator[None]:
        """An object to be committed, which does not stay where that can never be: its job may be erased by now."""
        storage = self._services.storage
        storage.put(key, flac.encode(samples), "audio/flac")
        try:
            yield
        except (live.SessionOver, live.WriterReplaced, JobGone, quotas.QuotaExceeded):
            with contextlib.suppress(*StorageError):  # the sweep deletes it then
                storage.delete([key])
            raise

    async def _store_piece(self, start: int, pcm: Pcm) -> None:
        began = time.perf_counter()

        def store() -> None:
            key = f"{live.pieces_prefix(self.job_id)}{start:012}-{uuid.uuid4().hex[:12]}.flac"
            with self._put(key, to_samples(pcm)), self._sessions.begin() as session:
                piece = LivePiece(key=key, job_id=self.job_id, start=start, samples=len(pcm))
                live.append(session, self._position.writer, piece, self._patience)

        await self._in_thread(store)
        self._touched = time.monotonic()
        metrics.compress_latency_ms.observe(1000 * (time.perf_counter() - began))
        self.stored = start + len(pcm)
        if self.received - self.stored <= MAX_UNWRITTEN_SECONDS * SAMPLE_RATE:
            self._room.set()
        self._cut_piece_when_due()
        self._on_stored()

    async def _store_chunk(self, index: int, stretches: Stretches, samples: Samples) -> None:
        timeline = Timeline(tuple((span.start / SAMPLE_RATE, span.end / SAMPLE_RATE) for span in stretches))

        def add(tx: JobTransaction, key: str) -> None:
            if tx.session.get(Chunk, (self.job_id, index)) is not None:
                return  # an attempt whose answer was lost
            quotas.check_audio(tx.session, self._services.settings, tx.job, timeline.end)
            tx.job.duration = timeline.end
            tx.session.add(
                Chunk(
                    job_id=self.job_id,
                    index=index,
                    start=timeline.start,
                    end=timeline.end,
                    stretches=[list(stretch) for stretch in timeline.stretches],
                    key=key,
                )
            )
            tx.session.flush()
            flow.add_chunk(tx, index)
            if tx.is_over:
                # the job has failed: who retries it makes these steps ready with the others
                tx.skip_open_steps()

        def store() -> None:
            key = f"{job_prefix(self.job_id)}chunks/{index:05d}-{uuid.uuid4().hex[:12]}.flac"
            with self._put(key, samples):
                self._commit(lambda tx: add(tx, key))

        await self._in_thread(store)

    def _insert_final(self, seq: int, end: int, content: Json) -> None:
        with self._sessions.begin() as session:
            live.add_final(session, self.job_id, self._position.writer, seq=seq, end=end, content=content)

    def _keep(self) -> None:
        with self._sessions.begin() as session:
            live.keep(session, self.job_id, self._position.writer, self._patience)


def patience(services: Services) -> timedelta:
    return timedelta(seconds=services.settings.live_resume_seconds + 30)


def _set_language(job: Job, language: str) -> None:
    job.language = job.language or language
