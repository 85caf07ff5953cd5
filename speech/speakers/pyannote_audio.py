"""pyannote.audio's own diarization pipeline in PyTorch (the ``pyannote`` extra)."""

from __future__ import annotations

import importlib
import os
from typing import Any

from speech.engines import SAMPLE_RATE, EngineInfo, EngineUnavailable, Samples
from speech.text.words import Turn

PIPELINE = "pyannote/speaker-diarization-community-1"


class PyannotePipeline:
    """A loaded pipeline. Takes the whole recording in memory."""

    def __init__(self, *, model: str = PIPELINE, token: str | None = None, device: str = "auto") -> None:
        """``model`` is a folder, or a name on the hub that ``token`` gives access to. Raises EngineUnavailable."""
        # pyannote.audio sends usage metrics by default
        os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
        try:
            pyannote = importlib.import_module("pyannote.audio")
            self._torch: Any = importlib.import_module("torch")
        except (ImportError, OSError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise EngineUnavailable(
                f"The engine pyannote needs pyannote.audio (pip install 'longhand[pyannote]'): {reason}."
            ) from error
        try:
            pipeline = pyannote.Pipeline.from_pretrained(model, token=token)
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise EngineUnavailable(f"pyannote cannot load {model}: {reason}") from error
        if pipeline is None:
            raise EngineUnavailable(
                f"pyannote cannot load {model}: accept its terms on the hub, and set LONGHAND_HF_TOKEN."
            )
        if device == "auto":
            device = "cuda" if self._torch.cuda.is_available() else "cpu"
        self._pipeline: Any = pipeline.to(self._torch.device(device))
        self.info = EngineInfo("pyannote", model, device, "float32")

    def diarize(
        self, samples: Samples, *, min_speakers: int | None = None, max_speakers: int | None = None
    ) -> list[Turn]:
        """Turns in order of their start; turns of different speakers may overlap."""
        waveform = self._torch.from_numpy(samples)[None]
        output = self._pipeline(
            {"waveform": waveform, "sample_rate": SAMPLE_RATE},
            min_speakers=min_speakers,
            max_speakers=max_speakers,
        )
        tracks = output.speaker_diarization.itertracks(yield_label=True)
        return sorted(
            (Turn(span.start, span.end, label) for span, _, label in tracks), key=lambda turn: turn.start
        )
