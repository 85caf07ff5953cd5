"""Language identification in another process."""

from __future__ import annotations

import grpc

from live import metrics
from live.remote.calls import stage_error, timed
from live.stages import AudioFrame, Language
from live.wire.channels import Peer
from live.wire.lid.v1 import identify_pb2 as lid
from live.wire.lid.v1.identify_pb2_grpc import IdentifyStub
from live.wire.messages import MAX_FRAME_SAMPLES, from_samples, to_audio_message
from speech.engines import Samples


class RemoteLanguage:
    """The language stage behind one address."""

    def __init__(self, peer: Peer, *, seconds: float) -> None:
        """``seconds``: that an answer may take."""
        self._peer, self._seconds = peer, seconds

    async def identify(self, flow_id: str, samples: Samples) -> Language | None:
        frame = AudioFrame(flow_id, 0, from_samples(samples[:MAX_FRAME_SAMPLES]), 0)
        request = lid.LanguageRequest(audio=to_audio_message(frame))
        try:
            with timed(metrics.lid_latency_ms):
                answer = await IdentifyStub(self._peer.channel).Language(request, timeout=self._seconds)
        except grpc.aio.AioRpcError as error:
            raise stage_error(self._peer.url, error.code(), error.details()) from error
        if not answer.language:
            return None
        return Language(answer.language, answer.probability if answer.HasField("probability") else None)

    async def close(self) -> None:
        await self._peer.close()
