"""Noise suppression in this process."""

from __future__ import annotations

import asyncio
import time

from live import metrics
from speech.audio.denoise import GtcrnModel, GtcrnStream
from speech.engines import Samples


class InProcessDenoising:
    """The network takes about a tenth of a core for each flow; it runs in threads, and holds no lock meanwhile."""

    def __init__(self, model: GtcrnModel) -> None:
        self._model = model

    async def open(self, flow_id: str) -> InProcessDenoiseSession:
        return InProcessDenoiseSession(self._model.stream())

    async def close(self) -> None:
        pass


class InProcessDenoiseSession:
    def __init__(self, stream: GtcrnStream) -> None:
        self._stream = stream

    async def push(self, samples: Samples) -> Samples:
        began = time.perf_counter()
        cleaned = await asyncio.to_thread(self._stream.push, samples)
        metrics.dn_latency_ms.observe(1000 * (time.perf_counter() - began))
        return cleaned

    async def flush(self) -> Samples:
        return await asyncio.to_thread(self._stream.flush)

    async def close(self) -> None:
        pass
