"""ASR in this process: the draft engine on the growing utterance."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np

from db.logs import describe
from live import metrics
from live.agreement import Agreement
from live.inprocess.pool import EnginePool, Urgency
from live.stages import AsrEvent, AsrFinal, AsrPartial, AsrStart, AudioFrame, StageBusy, StageDead
from speech.engines import SAMPLE_RATE, Said, Samples, Transcriber, Utterance
from speech.text.words import Hypothesis, Word, mean_confidence

logger = logging.getLogger(__name__)

FIRST_SECONDS = 0.5
"""Of an utterance, before which nothing can be heard in it: more than half of them come before its speech."""

QUIET_SECONDS = 0.1
"""Without sound, after which an utterance is likely to be over: what it is by now will be its final."""

BEFORE_SECONDS = 14.0
"""Of speech, up to the end of an utterance, in which it is heard: by itself, it is too short to be heard well."""

STABLE_SECONDS = 3.0
"""Of an utterance, before which hypotheses do not count: with less, two in a row agree on a wrong beginning.

Measured with tiny.en on 139 s of speech, finals have a word error rate of 0.204 from 1 s on, 0.178 from 1.5 s, and
0.165 from 3 s, as if they were not held to what was told before."""

MAX_LOAD = 0.5
"""Of the time between two partials of a session, that may go into the first."""

MAX_WAITING = 4
"""Utterances that may wait for their final; more of them mean that this machine does not keep up."""


@dataclass(slots=True)
class _Utterance:
    """An utterance that has not been answered."""

    number: int
    start: int
    pcm: bytearray = field(default_factory=bytearray)
    ended: bool = False
    agreement: Agreement = field(default_factory=Agreement)
    decoded: int = 0
    """Bytes of ``pcm`` that the last hypothesis is of."""
    hypothesis: Hypothesis | None = None
    in_context: bool = False
    """Whether that was heard behind what was said before."""
    words: tuple[Word, ...] = ()
    """Its final."""

    @property
    def samples(self) -> Samples:
        return np.frombuffer(bytes(self.pcm), "<i2").astype(np.float32) / np.float32(32768)

    @property
    def said(self) -> Said:
        words = tuple(word.shifted(-self.start / SAMPLE_RATE) for word in self.words)
        return Said(self.samples, words, self.hypothesis.language if self.hypothesis else None)

    @property
    def is_young(self) -> bool:
        return len(self.pcm) < 2 * STABLE_SECONDS * SAMPLE_RATE

    @property
    def end(self) -> int:
        return self.start + len(self.pcm) // 2


class InProcessRecognizer:
    """Sessions share one engine. For one event loop."""

    def __init__(
        self, engine: Transcriber, pool: EnginePool, *, sessions: int, interval_seconds: float = 0.25
    ) -> None:
        """``interval_seconds``: between two partials of a session, at least."""
        self.engine, self.pool = engine, pool
        self.interval_seconds = interval_seconds
        self._room = sessions

    async def open(self, start: AsrStart) -> InProcessSession:
        if self._room <= 0:
            raise StageBusy("this process recognises as many sessions as it may")
        self._room -= 1
        metrics.asr_inflight_sessions.inc()
        return InProcessSession(self, start)

    async def close(self) -> None:
        await self.pool.close()

    def release(self) -> None:
        self._room += 1
        metrics.asr_inflight_sessions.dec()


class InProcessSession:
    """One flow. A task decodes: the oldest utterance that has ended, else what the current one is so far."""

    def __init__(self, recognizer: InProcessRecognizer, start: AsrStart) -> None:
        self._recognizer, self._start = recognizer, start
        self._utterances: deque[_Utterance] = deque()
        self._count = 0
        self._before: deque[_Utterance] = deque()
        """The last that were answered."""
        self._closing = False
        self._news = asyncio.Event()
        self._events: asyncio.Queue[AsrEvent | StageDead | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._run())
        self._error: StageDead | None = None
        self._next_partial = self._sound_at = 0.0
        """Monotonic seconds."""
        self._spent = self._sent = 0.0
        """Seconds of engines, and of sound."""

    async def send(self, frame: AudioFrame) -> None:
        self._check()
        if not self._utterances or self._utterances[-1].ended:
            if len(self._utterances) >= MAX_WAITING:
                raise StageBusy("the engines do not keep up with what is spoken")
            self._utterances.append(_Utterance(self._count, frame.pts))
            self._count += 1
        self._utterances[-1].pcm += frame.pcm
        self._sent += frame.ns / SAMPLE_RATE
        self._sound_at = time.monotonic()
        self._news.set()

    async def end_utterance(self) -> None:
        self._check()
        if self._utterances and not self._utterances[-1].ended:
            self._utterances[-1].ended = True
            self._news.set()

    async def events(self) -> AsyncIterator[AsrEvent]:
        while (event := await self._events.get()) is not None:
            if isinstance(event, StageDead):
                raise event
            yield event

    async def close(self) -> None:
        if self._utterances:
            self._utterances[-1].ended = True
        self._closing = True
        self._news.set()

    async def abort(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    async def _run(self) -> None:
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                while await self._decode_next():
                    pass
                if self._closing and not self._utterances:
                    return
        except Exception as error:  # noqa: BLE001  (the engine's own, whatever it is)
            logger.error("flow %s: ASR failed: %s", self._start.flow_id, describe(error))
            self._error = StageDead("the engine failed")
            self._events.put_nowait(self._error)
        finally:
            self._events.put_nowait(None)
            self._recognizer.release()
            if self._sent:
                metrics.asr_rtf.observe(self._spent / self._sent)

    async def _decode_next(self) -> bool:
        """Decode what is due. Returns whether to look again at once."""
        if not self._utterances:
            return False
        current = self._utterances[0]
        if current.ended:
            await self._finish(current)
            self._utterances.popleft()
            return True
        if not self._start.partials or len(current.pcm) < 2 * FIRST_SECONDS * SAMPLE_RATE:
            return False
        quiet_at = self._sound_at + QUIET_SECONDS
        is_new = current.decoded != len(current.pcm)
        if not is_new and current.in_context:
            return False
        now = time.monotonic()
        due = min(self._next_partial, quiet_at) if is_new else quiet_at
        if now < due:
            await self._wait(current, due - now)
        else:
            # what may be its final, or is held to, is heard as well as can be
            await self._decode_partial(current, in_context=now >= quiet_at or not current.is_young)
        return True

    async def _wait(self, current: _Utterance, seconds: float) -> None:
        """So long, or until the utterance ends."""
        deadline = time.monotonic() + seconds
        while not current.ended and (left := deadline - time.monotonic()) > 0:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                # not wait_for, which until Python 3.12 swallows a cancellation that comes with the news
                async with asyncio.timeout(left):
                    await self._news.wait()
        self._news.set()

    async def _decode_partial(self, current: _Utterance, *, in_context: bool) -> None:
        began, is_young = time.monotonic(), current.is_young
        spent = await self._decode(current, Urgency.PARTIAL, in_context=in_context)
        interval = self._recognizer.interval_seconds
        if is_young and (current.hypothesis is None or not current.hypothesis.words):
            interval /= 2  # the first words are waited for
        self._next_partial = began + max(interval, spent / MAX_LOAD)
        if current.hypothesis is None or current.ended:
            return  # the final follows at once
        stable: tuple[Word, ...] = ()
        unstable = current.hypothesis.words
        if not is_young:
            stable, unstable = current.agreement.add(current.hypothesis.words)
        if stable or unstable:
            self._events.put_nowait(
                AsrPartial(
                    current.number,
                    stable,
                    unstable,
                    (current.start + current.decoded // 2) / SAMPLE_RATE,
                    current.hypothesis.language,
                )
            )

    async def _finish(self, current: _Utterance) -> None:
        if current.decoded != len(current.pcm) or not current.in_context:
            await self._decode(current, Urgency.FINAL, in_context=True)
        hypothesis = current.hypothesis
        words = current.words = current.agreement.finish(hypothesis.words if hypothesis else ())
        self._before.append(current)
        self._events.put_nowait(
            AsrFinal(
                current.number,
                current.start / SAMPLE_RATE,
                current.end / SAMPLE_RATE,
                words,
                hypothesis.language if hypothesis else None,
                mean_confidence(words),
            )
        )

    async def _decode(self, current: _Utterance, urgency: Urgency, *, in_context: bool) -> float:
        """Make a hypothesis of what there is. Returns the seconds that the engine took."""
        size, samples, start = len(current.pcm), current.samples, self._start
        before = self._said_before(size) if in_context else ()
        utterance = Utterance(samples, start.language, start.expected, start.hotwords, before=before)

        def decode() -> tuple[Hypothesis, float]:
            began = time.perf_counter()
            return self._recognizer.engine.transcribe([utterance])[0], time.perf_counter() - began

        asked = time.monotonic()
        hypothesis, spent = await self._recognizer.pool.run(urgency, decode)
        metrics.asr_latency_ms.observe(1000 * (time.monotonic() - asked))
        metrics.asr_busy_seconds.inc(spent)
        self._spent += spent
        current.hypothesis = hypothesis.shifted(current.start / SAMPLE_RATE)
        current.decoded, current.in_context = size, in_context or not self._before
        return spent

    def _said_before(self, size: int) -> tuple[Said, ...]:
        """What an utterance of so many bytes is heard behind."""
        room = 2 * BEFORE_SECONDS * SAMPLE_RATE - size
        while self._before and sum(len(each.pcm) for each in self._before) > room:
            self._before.popleft()
        return tuple(each.said for each in self._before)
