"""Voice detection and language identification in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence

from db.logs import describe
from live import metrics
from live.inprocess.pool import EnginePool, Urgency
from live.stages import Language, StageDead
from speech.engines import LanguageDetector, Samples, Utterance, VoiceDetector, VoiceModel


class InProcessVad:
    """A small network that takes less than a thread's change: it runs on the event loop itself."""

    def __init__(self, model: VoiceModel) -> None:
        self._model = model

    async def open(self, flow_id: str) -> InProcessVadSession:
        return InProcessVadSession(self._model.stream())

    async def close(self) -> None:
        pass


class InProcessVadSession:
    def __init__(self, detector: VoiceDetector) -> None:
        self._detector = detector

    @property
    def frame_samples(self) -> int:
        return self._detector.frame_samples

    async def push(self, samples: Samples) -> Sequence[float]:
        began = time.perf_counter()
        probabilities: list[float] = self._detector.push(samples).tolist()
        metrics.vad_latency_ms.observe(1000 * (time.perf_counter() - began))
        return probabilities

    async def close(self) -> None:
        pass


class InProcessLanguage:
    """Asks the draft engine, where it can detect languages."""

    def __init__(self, detector: LanguageDetector, pool: EnginePool) -> None:
        self._detector, self._pool = detector, pool

    async def identify(self, flow_id: str, samples: Samples) -> Language | None:
        began = time.perf_counter()
        try:
            language = await self._pool.run(
                Urgency.PARTIAL, lambda: self._detector.detect_language(Utterance(samples))
            )
        except Exception as error:
            raise StageDead(f"the engine failed: {describe(error)}") from error
        metrics.lid_latency_ms.observe(1000 * (time.perf_counter() - began))
        return Language(language)

    async def close(self) -> None:
        pass
