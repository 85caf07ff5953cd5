"""Voice detection in another process. Where that is busy or dies, this one detects voices itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from live import metrics
from live.remote.calls import StageCall, in_time, timed
from live.stages import AudioFrame, StageDead, StageError, VadSession, VoiceDetection
from live.wire.channels import Peer
from live.wire.common.v1 import audio_pb2 as common
from live.wire.messages import from_samples, in_frames, to_audio_message
from live.wire.vad.v1 import detect_pb2 as vad
from live.wire.vad.v1.detect_pb2_grpc import DetectStub
from speech.engines import Samples

logger = logging.getLogger(__name__)

Call = StageCall[common.AudioFrame, vad.Activity]


class RemoteVad:
    """The VAD stage behind one address."""

    def __init__(self, peer: Peer, instead: VoiceDetection, *, seconds: float) -> None:
        """``instead`` takes over; ``seconds``: that any answer may take."""
        self._peer, self._instead, self._seconds = peer, instead, seconds

    async def open(self, flow_id: str) -> VadSession:
        call = StageCall(self._peer.url, DetectStub(self._peer.channel).Stream())
        try:
            async with in_time(self._peer.url, self._seconds):
                first = await call.receive()
            if first is None or first.frame_samples == 0:
                raise StageDead(f"{self._peer.url} does not say how long its frames are")
        except StageError as error:
            call.cancel()
            logger.warning("flow %s: voices are detected in this process: %s", flow_id, error)
            return await self._instead.open(flow_id)
        return RemoteVadSession(call, self._instead, flow_id, first.frame_samples, self._seconds)

    async def close(self) -> None:
        await self._instead.close()
        await self._peer.close()


class RemoteVadSession:
    def __init__(
        self, call: Call, instead: VoiceDetection, flow_id: str, frame_samples: int, seconds: float
    ) -> None:
        self._call, self._instead, self._flow_id, self._seconds = call, instead, flow_id, seconds
        self._frame_samples = frame_samples
        self._seq = self._position = 0
        self._rest = np.zeros(0, np.float32)
        """Of what was pushed, behind the last frame that was answered."""
        self._local: VadSession | None = None

    @property
    def frame_samples(self) -> int:
        return self._frame_samples

    async def push(self, samples: Samples) -> Sequence[float]:
        if self._local is not None:
            return await self._local.push(samples)
        self._rest = np.concatenate([self._rest, samples])
        probabilities: list[float] = []
        for piece in in_frames(samples):
            try:
                answer = await self._ask(piece)
            except StageError as error:
                return [*probabilities, *await self._take_over(error)]
            self._rest = self._rest[len(answer) * self._frame_samples :]
            probabilities += answer
        return probabilities

    async def close(self) -> None:
        self._call.cancel()
        if self._local is not None:
            await self._local.close()

    async def _ask(self, samples: Samples) -> Sequence[float]:
        frame = AudioFrame(self._flow_id, self._seq, from_samples(samples), self._position)
        self._seq += 1
        self._position = frame.end
        with timed(metrics.vad_latency_ms):
            activity = await self._call.ask(to_audio_message(frame), seconds=self._seconds)
        return activity.probabilities

    async def _take_over(self, error: StageError) -> Sequence[float]:
        """Raises StageDead where this process has another kind of voice detection."""
        logger.warning("flow %s: voices are detected in this process from now on: %s", self._flow_id, error)
        local = await self._instead.open(self._flow_id)
        if local.frame_samples != self._frame_samples:
            raise StageDead(str(error)) from error
        self._local = local
        return await local.push(self._rest)
