"""``asr.v1.Recognize``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import grpc

from live.serve.sessions import Context, Sessions
from live.stages import AsrFinal, AsrSession, Recognizer
from live.wire.asr.v1 import recognize_pb2 as asr
from live.wire.asr.v1.recognize_pb2_grpc import RecognizeServicer
from live.wire.messages import BadMessage, from_start_message, to_event_message
from live.wire.receiving import AudioReceiver, EndOfUtterance, Received

MAX_WAITING_REQUESTS = 64
"""That may have arrived and not been heard yet: more than a second of audio, then the client waits."""


class RecognizeService(RecognizeServicer):
    """Gives each stream a session of a recognizer."""

    def __init__(self, recognizer: Recognizer, sessions: Sessions) -> None:
        self._recognizer, self._sessions = recognizer, sessions

    async def Stream(
        self, request_iterator: AsyncIterator[asr.StreamRequest], context: Context
    ) -> AsyncIterator[asr.AsrEvent]:
        async with self._sessions.admit(context):
            # before anything is sent to it: a stream that ends while its client writes cannot say why
            await context.send_initial_metadata(())
            first = await anext(aiter(request_iterator), None)
            if first is None or first.WhichOneof("request") != "start":
                raise BadMessage("a stream begins with Start")
            session = await self._recognizer.open(from_start_message(first.start))
            feeding = asyncio.create_task(_Feeder(session, first.start.flow_id).run(request_iterator))
            try:
                async for event in session.events():
                    yield to_event_message(event)
                    if self._sessions.draining and isinstance(event, AsrFinal):
                        # between two utterances: the client goes on elsewhere
                        await context.abort(grpc.StatusCode.UNAVAILABLE, "this server is about to stop")
                await feeding
            finally:
                feeding.cancel()
                await session.abort()


class _Feeder:
    """What a stream brings goes to its session."""

    def __init__(self, session: AsrSession, flow_id: str) -> None:
        self._session = session
        self._receiver = AudioReceiver(flow_id)

    async def run(self, requests: AsyncIterator[asr.StreamRequest]) -> None:
        """Until nothing more comes. Ends the session where that fails."""
        arrived: asyncio.Queue[asr.StreamRequest | None] = asyncio.Queue(MAX_WAITING_REQUESTS)
        reading = asyncio.create_task(_read(requests, arrived))
        try:
            while (request := await self._next(arrived)) is not None:
                await self._pass_on(self._receiver.push(request, asyncio.get_running_loop().time()))
            await self._pass_on(self._receiver.flush())
            await self._session.close()
        except Exception:
            await self._session.abort()
            raise
        finally:
            reading.cancel()

    async def _next(self, arrived: asyncio.Queue[asr.StreamRequest | None]) -> asr.StreamRequest | None:
        """The next request. What is missing before those that are here is given up while it waits."""
        while True:
            try:
                async with asyncio.timeout_at(self._receiver.deadline):
                    return await arrived.get()
            except TimeoutError:
                await self._pass_on(self._receiver.expire(asyncio.get_running_loop().time()))

    async def _pass_on(self, received: Iterable[Received]) -> None:
        for item in received:
            if isinstance(item, EndOfUtterance):
                await self._session.end_utterance()
            else:
                await self._session.send(item)


async def _read(
    requests: AsyncIterator[asr.StreamRequest], arrived: asyncio.Queue[asr.StreamRequest | None]
) -> None:
    async for request in requests:
        await arrived.put(request)
    await arrived.put(None)
