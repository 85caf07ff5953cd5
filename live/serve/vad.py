"""``vad.v1.Detect``."""

from __future__ import annotations

from collections.abc import AsyncIterator

from live.serve.sessions import Context, Sessions
from live.stages import VoiceDetection
from live.wire.common.v1 import audio_pb2 as common
from live.wire.messages import from_audio_message
from live.wire.vad.v1 import detect_pb2 as vad
from live.wire.vad.v1.detect_pb2_grpc import DetectServicer


class DetectService(DetectServicer):
    """Gives each stream a session of voice detection."""

    def __init__(self, detection: VoiceDetection, sessions: Sessions) -> None:
        self._detection, self._sessions = detection, sessions

    async def Stream(
        self, request_iterator: AsyncIterator[common.AudioFrame], context: Context
    ) -> AsyncIterator[vad.Activity]:
        async with self._sessions.admit(context):
            session = await self._detection.open("")
            try:
                yield vad.Activity(frame_samples=session.frame_samples)
                async for message in request_iterator:
                    frame = from_audio_message(message)
                    yield vad.Activity(probabilities=await session.push(frame.samples))
            finally:
                await session.close()
