"""Noise suppression in another process. Where that is busy or dies, audio goes on as it came."""

from __future__ import annotations

import logging

import numpy as np

from live import metrics
from live.remote.calls import StageCall, in_time, timed
from live.stages import AudioFrame, DenoiseSession, StageError
from live.wire.channels import Peer
from live.wire.common.v1 import audio_pb2 as common
from live.wire.denoise.v1.suppress_pb2_grpc import SuppressStub
from live.wire.messages import BadMessage, from_audio_message, from_samples, in_frames, to_audio_message
from speech.engines import Samples

logger = logging.getLogger(__name__)

Call = StageCall[common.AudioFrame, common.AudioFrame]


class RemoteDenoising:
    """The noise suppression stage behind one address."""

    def __init__(self, peer: Peer, *, seconds: float) -> None:
        """``seconds``: that any answer may take."""
        self._peer, self._seconds = peer, seconds

    async def open(self, flow_id: str) -> DenoiseSession:
        call = StageCall(self._peer.url, SuppressStub(self._peer.channel).Stream())
        session = RemoteDenoiseSession(call, flow_id, self._peer.url, self._seconds)
        try:
            async with in_time(self._peer.url, self._seconds):
                await call.admitted()
        except StageError as error:
            session.give_up(error)
        return session

    async def close(self) -> None:
        await self._peer.close()


class RemoteDenoiseSession:
    def __init__(self, call: Call, flow_id: str, url: str, seconds: float) -> None:
        self._call, self._flow_id, self._url, self._seconds = call, flow_id, url, seconds
        self._seq = self._position = 0
        self._pending = np.zeros(0, np.float32)
        """Audio as it came, of which nothing has come back."""
        self._alive = True

    async def push(self, samples: Samples) -> Samples:
        self._pending = np.concatenate([self._pending, samples])
        cleaned = [np.zeros(0, np.float32)]
        for piece in in_frames(samples):
            if self._alive:
                try:
                    cleaned.append(self._cleaned(await self._ask(piece)))
                except (StageError, BadMessage) as error:
                    self.give_up(error)
        if not self._alive:
            cleaned.append(self._as_it_came())
        return np.concatenate(cleaned)

    async def flush(self) -> Samples:
        cleaned = np.zeros(0, np.float32)
        if self._alive and len(self._pending):
            try:
                async with in_time(self._url, self._seconds):
                    await self._call.done()
                    answer = await self._call.receive()
                cleaned = np.zeros(0, np.float32) if answer is None else self._cleaned(answer)
            except (StageError, BadMessage) as error:
                self.give_up(error)
        return np.concatenate([cleaned, self._as_it_came()])

    async def close(self) -> None:
        self._call.cancel()

    def give_up(self, error: Exception) -> None:
        logger.warning("flow %s: noise is not suppressed from now on: %s", self._flow_id, error)
        self._alive = False
        self._call.cancel()

    async def _ask(self, samples: Samples) -> common.AudioFrame:
        frame = AudioFrame(self._flow_id, self._seq, from_samples(samples), self._position)
        self._seq += 1
        self._position = frame.end
        with timed(metrics.dn_latency_ms):
            return await self._call.ask(to_audio_message(frame), seconds=self._seconds)

    def _cleaned(self, answer: common.AudioFrame) -> Samples:
        """Raises BadMessage."""
        cleaned = from_audio_message(answer).samples
        if len(cleaned) > len(self._pending):
            raise BadMessage(f"{self._url} answers with more audio than it got")
        self._pending = self._pending[len(cleaned) :]
        return cleaned

    def _as_it_came(self) -> Samples:
        samples, self._pending = self._pending, np.zeros(0, np.float32)
        return samples
