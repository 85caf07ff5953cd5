"""``denoise.v1.Suppress``."""

from __future__ import annotations

from collections.abc import AsyncIterator

from live.serve.sessions import Context, Sessions
from live.stages import AudioFrame, Denoising
from live.wire.common.v1 import audio_pb2 as common
from live.wire.denoise.v1.suppress_pb2_grpc import SuppressServicer
from live.wire.messages import from_audio_message, from_samples, to_audio_message
from speech.engines import Samples


class SuppressService(SuppressServicer):
    """Gives each stream a session of noise suppression."""

    def __init__(self, denoising: Denoising, sessions: Sessions) -> None:
        self._denoising, self._sessions = denoising, sessions

    async def Stream(
        self, request_iterator: AsyncIterator[common.AudioFrame], context: Context
    ) -> AsyncIterator[common.AudioFrame]:
        async with self._sessions.admit(context):
            session = await self._denoising.open("")
            sent = count = 0

            def answer(flow_id: str, samples: Samples) -> common.AudioFrame:
                nonlocal sent, count
                frame = AudioFrame(flow_id, count, from_samples(samples), sent)
                sent, count = frame.end, count + 1
                return to_audio_message(frame)

            try:
                await context.send_initial_metadata(())
                frame = None
                async for message in request_iterator:
                    frame = from_audio_message(message)
                    yield answer(frame.flow_id, await session.push(frame.samples))
                if frame is not None:
                    yield answer(frame.flow_id, await session.flush())
            finally:
                await session.close()
