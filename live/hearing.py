"""The recognition of one flow, across sessions of the ASR stage that may be busy, or die.

An utterance is kept until it is answered. Where a session dies, another one hears again what was open; where none
can be had, what is open is left to the queue, which transcribes the recording anyway.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from db.logs import describe
from live.agreement import key, words_behind
from live.stages import (
    AsrEvent,
    AsrFinal,
    AsrPartial,
    AsrSession,
    AsrStart,
    AudioFrame,
    Recognizer,
    StageBusy,
    StageDead,
    StageError,
)
from speech.text.words import Word

logger = logging.getLogger(__name__)

MAX_TRIES = 2
"""Sessions that hear an utterance, before it is left to the queue."""

STAGE_SECONDS = 3.0
"""That a session of ASR may take to open, or to take what there is: meanwhile the recording waits."""


@dataclass(slots=True)
class _Open:
    """An utterance without its final."""

    number: int
    start: int
    pcm: bytearray = field(default_factory=bytearray)
    ended: bool = False
    tries: int = 0
    """Sessions that have begun to hear it."""
    sent: int = 0
    """Bytes that the current session has got."""
    end_sent: bool = False
    stable: tuple[Word, ...] = ()
    """What was told of it for good."""

    @property
    def end(self) -> int:
        return self.start + len(self.pcm) // 2


@dataclass(frozen=True, slots=True)
class Partial:
    """What an utterance is so far; ``stable`` only grows."""

    utterance: int
    stable: tuple[Word, ...]
    unstable: tuple[Word, ...]
    end: float


@dataclass(frozen=True, slots=True)
class Final:
    """What an utterance was, which ends at the sample ``end``. Its beginning is what was stable."""

    asr: AsrFinal
    end: int


class Hearing:
    """For one event loop. Utterances are numbered over all sessions."""

    def __init__(
        self,
        recognizer: Recognizer,
        start: AsrStart,
        tell: Callable[[Partial | Final], None],
        miss: Callable[[StageError], None],
        *,
        first: int = 0,
    ) -> None:
        """``tell`` gets what is heard, in order; ``miss``, why some utterances are left to the queue.

        ``first`` is the number of the first utterance.
        """
        self._recognizer, self._start = recognizer, start
        self._tell, self._miss = tell, miss
        self._session: AsrSession | None = None
        self._session_start = start
        self._open: deque[_Open] = deque()
        self._count, self._seq = first, 0
        self._skipping = False
        """Whether the current utterance is left to the queue."""
        self._settled = asyncio.Event()
        self._settled.set()
        self._turn = asyncio.Lock()
        self._listeners: set[asyncio.Task[None]] = set()

    @property
    def utterances(self) -> int:
        """How many have begun."""
        return self._count

    def expect(self, language: str) -> None:
        """From the next utterance on."""
        self._start = replace(self._start, expected=language)

    async def hear(self, start: int, pcm: bytes) -> None:
        """More of the current utterance, or the beginning of one at this sample."""
        async with self._turn:
            if self._skipping:
                return
            if not self._open or self._open[-1].ended:
                if not self._open and self._session_start != self._start:
                    await self._leave()
                self._open.append(_Open(self._count, start))
                self._count += 1
            self._open[-1].pcm += pcm
            await self._bring_up_to_date()

    async def end_utterance(self) -> None:
        async with self._turn:
            self._skipping = False
            if self._open and not self._open[-1].ended:
                self._open[-1].ended = True
                self._settled.clear()
                await self._bring_up_to_date()

    async def drop(self) -> None:
        """Forget the current utterance, if it has not ended."""
        async with self._turn:
            self._skipping = False
            if self._open and not self._open[-1].ended:
                self._open.pop()
                await self._leave()
                await self._bring_up_to_date()

    async def settle(self) -> None:
        """Wait until all that has ended is answered, or left to the queue."""
        await self._settled.wait()

    async def close(self) -> None:
        """End at once, without what is open."""
        async with self._turn:
            await self._leave()
        for listener in self._listeners:
            listener.cancel()
        await asyncio.gather(*self._listeners, return_exceptions=True)

    async def _bring_up_to_date(self) -> None:
        """Send what the session lacks, to another one if it dies."""
        while self._open:
            try:
                async with asyncio.timeout(STAGE_SECONDS):
                    if self._session is None:
                        await self._begin_session()
                    await self._send()
            except (StageError, TimeoutError) as failure:
                error = StageDead("it takes nothing any more") if isinstance(failure, TimeoutError) else failure
                await self._leave()
                if isinstance(error, StageBusy) or any(each.tries >= MAX_TRIES for each in self._open):
                    self._skipping = not self._open[-1].ended
                    self._open.clear()
                    self._settled.set()
                    self._miss(error)
            else:
                return

    async def _begin_session(self) -> None:
        """A session that hears all that is open from its beginning. Raises StageError."""
        for each in self._open:
            each.tries += 1
            each.sent, each.end_sent = 0, False
        self._session_start, self._seq = self._start, 0
        session = self._session = await self._recognizer.open(self._start)
        listener = asyncio.create_task(self._listen(session, self._open[0].number))
        self._listeners.add(listener)
        listener.add_done_callback(self._listeners.discard)

    async def _send(self) -> None:
        """Raises StageError."""
        session = self._session
        assert session is not None  # noqa: S101  (begun before)
        for each in [*self._open]:  # what is answered meanwhile leaves it
            if each.sent < len(each.pcm):
                pcm = bytes(each.pcm[each.sent :])
                pts = each.start + each.sent // 2
                each.sent += len(pcm)
                self._seq += 1
                await session.send(AudioFrame(self._start.flow_id, self._seq - 1, pcm, pts))
            if each.ended and not each.end_sent:
                each.end_sent = True
                await session.end_utterance()

    async def _leave(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.abort()

    async def _listen(self, session: AsrSession, first: int) -> None:
        """Pass on what a session says, whose utterances are numbered from ``first``."""
        try:
            async for event in session.events():
                if self._session is session:
                    self._pass_on(first + event.utterance, event)
        except Exception as error:  # noqa: BLE001  (else the utterance that it was about would stay open for ever)
            died = str(error) if isinstance(error, StageDead) else describe(error)
            logger.warning("flow %s: a session of ASR died: %s", self._start.flow_id, died)
            async with self._turn:
                if self._session is session:
                    await self._leave()
                    await self._bring_up_to_date()

    def _pass_on(self, number: int, event: AsrEvent) -> None:
        utterance = next((each for each in self._open if each.number == number), None)
        if utterance is None:
            return
        if isinstance(event, AsrPartial):
            said = [key(word) for word in utterance.stable]
            # a session that hears it again may not be as far yet, or hear something else
            if [key(word) for word in event.stable[: len(said)]] == said:
                utterance.stable += event.stable[len(said) :]
                self._tell(Partial(number, utterance.stable, event.unstable, event.end))
        else:
            words = utterance.stable + words_behind(utterance.stable, event.words)
            self._open.remove(utterance)
            if not any(each.ended for each in self._open):
                self._settled.set()
            self._tell(Final(replace(event, utterance=number, words=words), utterance.end))
