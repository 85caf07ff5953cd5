"""ASR in other processes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from live import metrics
from live.remote.pool import Call, Pool, Server
from live.stages import AsrEvent, AsrFinal, AsrStart, AudioFrame, StageDead, StageError
from live.wire.messages import from_event_message
from live.wire.opus import OpusEncoder
from live.wire.sending import AudioSender, Encoder


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """How audio goes to ASR, and how long an answer may take."""

    make_encoder: Callable[[], Encoder] | None = OpusEncoder
    """None for PCM."""
    frame_ms: int = 20
    """Of one packet of Opus."""
    final_seconds: float = 30.0
    """From the end of an utterance to its final."""


class RemoteRecognizer:
    """The ASR stage behind a pool of servers."""

    def __init__(self, pool: Pool, options: LinkOptions) -> None:
        self._pool, self._options = pool, options

    async def open(self, start: AsrStart) -> RemoteSession:
        server, call = await self._pool.connect(start)
        return RemoteSession(server, call, self._options)

    async def close(self) -> None:
        await self._pool.close()


class RemoteSession:
    """One flow, as one stream to one server."""

    def __init__(self, server: Server, call: Call, options: LinkOptions) -> None:
        self._server, self._call = server, call
        self._final_seconds = options.final_seconds
        self._sender = AudioSender(
            make_encoder=options.make_encoder,
            frame_ms=options.frame_ms,
            on_failure=metrics.pcm_to_opus_fail.inc,
        )
        self._in_utterance = self._closing = self._released = False
        self._ended_at: deque[float] = deque()
        """When the utterances ended that have no final yet."""
        self._overdue: asyncio.TimerHandle | None = None
        server.sessions += 1
        metrics.asr_inflight_sessions.inc()

    async def send(self, frame: AudioFrame) -> None:
        self._in_utterance = True
        for request in self._sender.frame(frame):
            await self._call.send(request)

    async def end_utterance(self) -> None:
        if not self._in_utterance:
            return
        self._in_utterance = False
        self._ended_at.append(time.monotonic())
        self._watch()
        for request in self._sender.end():
            await self._call.send(request)

    async def events(self) -> AsyncIterator[AsrEvent]:
        try:
            while (message := await self._call.receive()) is not None:
                event = from_event_message(message)
                if isinstance(event, AsrFinal):
                    self._answered()
                if event is not None:
                    yield event
            if not self._closing or self._ended_at:
                raise StageDead(f"{self._server.url} ended the stream")
        except StageError as error:
            if self._released:
                return
            if isinstance(error, StageDead):
                self._server.breaker.failed()
            raise StageDead(str(error)) from error
        finally:
            self._release()

    async def close(self) -> None:
        self._closing = True
        try:
            await self.end_utterance()
            await self._call.done()
        except StageError:
            pass  # whoever iterates events is told

    async def abort(self) -> None:
        self._release()

    def _answered(self) -> None:
        self._server.breaker.succeeded()
        if self._ended_at:
            metrics.asr_latency_ms.observe(1000 * (time.monotonic() - self._ended_at.popleft()))
        self._watch()

    def _watch(self) -> None:
        """Give the server up when the next final is overdue."""
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
        if self._ended_at:
            left = self._ended_at[0] + self._final_seconds - time.monotonic()
            self._overdue = asyncio.get_running_loop().call_later(left, self._call.cancel)

    def _release(self) -> None:
        if not self._released:
            self._released = True
            self._ended_at.clear()
            self._watch()
            self._call.cancel()
            self._server.sessions -= 1
            metrics.asr_inflight_sessions.dec()
