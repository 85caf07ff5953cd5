"""ASR in other processes. A server that dies in mid utterance is replaced, and the utterance is heard again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from live.agreement import best_beginning, key
from live.remote.pool import Link, Pool
from live.stages import AsrEvent, AsrFinal, AsrStart, AudioFrame, StageBusy, StageDead, StageError
from speech.engines import SAMPLE_RATE
from speech.text.words import Word

logger = logging.getLogger(__name__)

MAX_UNANSWERED_SECONDS = 120.0
"""Of audio that a session keeps until it has its final; a server that is further behind does not keep up."""

RETRY_SECONDS = 0.1
"""Between two attempts to find a server that takes over."""


class RemoteRecognizer:
    """The ASR stage behind a pool of servers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def open(self, start: AsrStart) -> RemoteSession:
        return RemoteSession(self._pool, start, await self._pool.connect(start))

    async def close(self) -> None:
        await self._pool.close()


class RemoteSession:
    """One flow. What has not been answered yet is kept, and sent again to the server that takes over.

    Sending never waits for a server that takes over: that is up to whoever iterates ``events``.
    """

    def __init__(self, pool: Pool, start: AsrStart, link: Link) -> None:
        self._pool, self._start, self._link = pool, start, link
        self._unanswered: list[AudioFrame | None] = []
        """Frames, and None for each end of an utterance."""
        self._unanswered_samples = 0
        self._sent = 0
        """How many of these went over the link."""
        self._sending = asyncio.Lock()
        self._answered = 0
        """Finals so far."""
        self._before_link = 0
        """Finals of earlier links: this one's utterances count from there."""
        self._stable: tuple[Word, ...] = ()
        """What was told of the current utterance and holds."""
        self._closing = self._aborted = False
        self._error: StageError | None = None

    async def send(self, frame: AudioFrame) -> None:
        self._check()
        self._unanswered.append(frame)
        self._unanswered_samples += frame.ns
        if self._unanswered_samples > MAX_UNANSWERED_SECONDS * SAMPLE_RATE:
            self._end(StageBusy("ASR does not keep up with what is spoken"))
            self._check()
        await self._send_rest()

    async def end_utterance(self) -> None:
        self._check()
        if self._is_open():
            self._unanswered.append(None)
            await self._send_rest()

    async def events(self) -> AsyncIterator[AsrEvent]:
        while True:
            try:
                event = await self._link.receive()
            except StageBusy as error:
                self._end(error)
                raise
            except StageDead as error:
                if self._aborted:
                    return
                self._check()
                await self._reconnect(error)
                continue
            if event is not None:
                if (taken := self._take(event)) is not None:
                    yield taken
            elif self._closing and not self._unanswered:
                self._link.release()
                return
            else:
                await self._reconnect(StageDead("the server ended the stream"))

    async def close(self) -> None:
        if self._is_open():
            self._unanswered.append(None)
        self._closing = True
        await self._send_rest()

    async def abort(self) -> None:
        self._aborted = True
        self._end(StageDead("the session was aborted"))

    def _is_open(self) -> bool:
        return bool(self._unanswered) and self._unanswered[-1] is not None

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _end(self, error: StageError) -> None:
        self._error = self._error or error
        self._unanswered.clear()
        self._link.release()

    async def _send_rest(self) -> None:
        """Send what has not been sent. A dead link is noticed by whoever iterates events, who sends it again."""
        async with self._sending:
            link = self._link
            with contextlib.suppress(StageError):
                while self._sent < len(self._unanswered):
                    item = self._unanswered[self._sent]
                    self._sent += 1
                    if item is not None:
                        await link.send(item)
                    else:
                        await link.end_utterance()
                        self._expect_final(link)
                if self._closing:
                    await link.done()

    def _expect_final(self, link: Link) -> None:
        """Give the link up if the final of the utterance that was just sent does not come in time."""
        ended = self._unanswered[: self._sent].count(None) + self._answered

        def check() -> None:
            if self._link is link and self._answered < ended:
                link.release()

        asyncio.get_running_loop().call_later(self._pool.options.final_seconds, check)

    async def _reconnect(self, error: StageDead) -> None:
        """Have another server hear what is unanswered. Raises StageBusy, StageDead when none is found in time."""
        self._link.failed()
        logger.warning("flow %s: ASR is replaced: %s", self._start.flow_id, error)
        deadline = time.monotonic() + self._pool.options.reconnect_seconds
        while True:
            try:
                link = await self._pool.connect(self._start)
                break
            except StageError as refusal:
                if time.monotonic() > deadline:
                    self._end(refusal)
            self._check()
            await asyncio.sleep(RETRY_SECONDS)
        if self._error is not None:
            link.release()
        self._check()
        async with self._sending:
            self._link, self._sent, self._before_link = link, 0, self._answered
        await self._send_rest()

    def _take(self, event: AsrEvent) -> AsrEvent | None:
        """The event as the caller is to see it; None for one that is about no utterance of ours."""
        event = replace(event, utterance=self._before_link + event.utterance)
        if event.utterance != self._answered or (isinstance(event, AsrFinal) and None not in self._unanswered):
            return None
        if isinstance(event, AsrFinal):
            self._link.succeeded()
            if self._stable:
                event = replace(event, words=self._continued(event.words))
            self._stable = ()
            self._answered += 1
            answered = self._unanswered.index(None) + 1
            self._unanswered_samples -= sum(frame.ns for frame in self._unanswered[:answered] if frame is not None)
            del self._unanswered[:answered]
            self._sent -= answered
            return event
        words = self._continued((*event.stable, *event.unstable))
        stable = max(len(self._stable), len(words) - len(event.unstable))
        self._stable = words[:stable]
        return replace(event, stable=self._stable, unstable=words[stable:])

    def _continued(self, words: Sequence[Word]) -> tuple[Word, ...]:
        """A hypothesis of the current utterance, with what was told of it for its beginning.

        They differ only where another server heard the utterance again.
        """
        beginning = best_beginning([key(word) for word in self._stable], [key(word) for word in words])
        return (*self._stable, *words[beginning:])
