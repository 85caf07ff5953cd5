"""Writing the audit log: one writer in each process, so that many requests share a transaction."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from anyio import CapacityLimiter, to_thread
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api.access.refusals import Refusals, Refused
from db.access import audit
from db.access.audit import Entry
from db.session import Sessions

logger = logging.getLogger(__name__)

OUTAGES = (OperationalError, InterfaceError, InternalError, PoolTimeout)

PAUSE_SECONDS = 1.0
"""Entries that nobody waits for are written so long after each other."""

MAX_BUFFERED = 10_000
"""Of these, while Postgres is away; the oldest go first, and the log says how many."""


class AuditLog:
    """For use on the event loop alone."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._buffer: list[Entry] = []
        self._awaited: list[tuple[Entry, asyncio.Future[None]]] = []
        self._refusals = Refusals()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        # a thread of its own: what others wait for never waits behind uploads
        self._threads = CapacityLimiter(1)
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Write what is left."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._write(last=True)

    def add(self, entry: Entry) -> None:
        """Write an entry within a second or so."""
        self._buffer.append(entry)

    def add_refused(self, refused: Refused) -> None:
        self._refusals.add(refused)

    async def commit(self, entry: Entry) -> None:
        """Write an entry; returns once it is committed. Raises SQLAlchemyError if it cannot be."""
        written = asyncio.get_running_loop().create_future()
        self._awaited.append((entry, written))
        self._wake.set()
        # the row is written also if the caller goes away meanwhile
        await asyncio.shield(written)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            # what is taken is written, also while the process ends
            await asyncio.shield(asyncio.ensure_future(self._write()))

    async def _write(self, *, last: bool = False) -> None:
        buffered, self._buffer = [*self._buffer, *self._refusals.due(everything=last)], []
        awaited, self._awaited = self._awaited, []
        entries = [*buffered, *(entry for entry, _ in awaited)]
        if not entries:
            return

        def write() -> None:
            with self._sessions.begin() as session:
                audit.write(session, entries)

        try:
            await to_thread.run_sync(write, limiter=self._threads)
        except Exception as error:
            for _, written in awaited:
                if not written.done():
                    written.set_exception(error)
            if isinstance(error, OUTAGES):
                logger.warning("could not write %d entries of the audit log: %s", len(entries), error)
                self._keep(buffered)
            else:
                # kept, they would fail again, and others with them
                logger.error("%d entries of the audit log cannot be written", len(entries), exc_info=error)
            return
        for _, written in awaited:
            if not written.done():
                written.set_result(None)

    def _keep(self, entries: list[Entry]) -> None:
        self._buffer = [*entries, *self._buffer]
        if (lost := len(self._buffer) - MAX_BUFFERED) > 0:
            del self._buffer[:lost]
            logger.error("%d entries of the audit log were lost: Postgres is away for too long", lost)
