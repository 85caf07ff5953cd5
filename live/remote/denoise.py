"""Noise suppression in another process."""

from __future__ import annotations

import grpc
import numpy as np

from live import metrics
from live.remote.calls import StageCall, in_time, timed
from live.stages import AudioFrame, DenoiseSession
from live.wire.common.v1 import audio_pb2 as common
from live.wire.denoise.v1.suppress_pb2_grpc import SuppressStub
from live.wire.messages import from_audio_message, from_samples, to_audio_message
from speech.engines import Samples


class RemoteDenoising:
    """The noise suppression stage behind one address."""

    def __init__(self, url: str, channel: grpc.aio.Channel, *, seconds: float) -> None:
        """``seconds``: that any answer may take."""
        self._url, self._channel, self._seconds = url, channel, seconds

    async def open(self, flow_id: str) -> DenoiseSession:
        call = StageCall(self._url, SuppressStub(self._channel).Stream())
        try:
            async with in_time(self._url, self._seconds):
                await call.admitted()
        except BaseException:
            call.cancel()
            raise
        return RemoteDenoiseSession(call, flow_id, self._url, self._seconds)

    async def close(self) -> None:
        await self._channel.close()


class RemoteDenoiseSession:
    def __init__(
        self, call: StageCall[common.AudioFrame, common.AudioFrame], flow_id: str, url: str, seconds: float
    ) -> None:
        self._call, self._flow_id, self._url, self._seconds = call, flow_id, url, seconds
        self._seq = self._position = 0

    async def push(self, samples: Samples) -> Samples:
        frame = AudioFrame(self._flow_id, self._seq, from_samples(samples), self._position)
        self._seq += 1
        self._position = frame.end
        with timed(metrics.dn_latency_ms):
            cleaned = await self._call.ask(to_audio_message(frame), seconds=self._seconds)
        return from_audio_message(cleaned).samples

    async def flush(self) -> Samples:
        async with in_time(self._url, self._seconds):
            await self._call.done()
            rest = await self._call.receive()
        await self.close()
        return np.zeros(0, np.float32) if rest is None else from_audio_message(rest).samples

    async def close(self) -> None:
        self._call.cancel()
