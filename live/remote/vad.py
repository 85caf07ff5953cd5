"""Voice detection in another process."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from live import metrics
from live.remote.calls import StageCall, in_time, timed
from live.stages import AudioFrame, StageDead, VadSession
from live.wire.common.v1 import audio_pb2 as common
from live.wire.messages import from_samples, to_audio_message
from live.wire.vad.v1 import detect_pb2 as vad
from live.wire.vad.v1.detect_pb2_grpc import DetectStub
from speech.engines import Samples


class RemoteVad:
    """The VAD stage behind one address."""

    def __init__(self, url: str, channel: grpc.aio.Channel, *, seconds: float) -> None:
        """``seconds``: that any answer may take."""
        self._url, self._channel, self._seconds = url, channel, seconds

    async def open(self, flow_id: str) -> VadSession:
        call = StageCall(self._url, DetectStub(self._channel).Stream())
        try:
            async with in_time(self._url, self._seconds):
                first = await call.receive()
            if first is None or first.frame_samples == 0:
                raise StageDead(f"{self._url} does not say how long its frames are")
        except BaseException:
            call.cancel()
            raise
        return RemoteVadSession(call, flow_id, first.frame_samples, self._seconds)

    async def close(self) -> None:
        await self._channel.close()


class RemoteVadSession:
    def __init__(
        self, call: StageCall[common.AudioFrame, vad.Activity], flow_id: str, frame_samples: int, seconds: float
    ) -> None:
        self._call, self._flow_id, self._seconds = call, flow_id, seconds
        self._frame_samples = frame_samples
        self._seq = self._position = 0

    @property
    def frame_samples(self) -> int:
        return self._frame_samples

    async def push(self, samples: Samples) -> Sequence[float]:
        frame = AudioFrame(self._flow_id, self._seq, from_samples(samples), self._position)
        self._seq += 1
        self._position = frame.end
        with timed(metrics.vad_latency_ms):
            activity = await self._call.ask(to_audio_message(frame), seconds=self._seconds)
        return list(activity.probabilities)

    async def close(self) -> None:
        self._call.cancel()
