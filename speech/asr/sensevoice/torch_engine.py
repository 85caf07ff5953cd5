"""SenseVoice-Small in PyTorch through FunASR (the ``torch`` extra): what the ONNX export is compared with."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from speech.asr.sensevoice.base import ITN_IDS, LANGUAGE_IDS, SenseVoice
from speech.asr.sensevoice.ctc import Posteriors, best_classes
from speech.audio.filterbank import Features
from speech.engines import EngineInfo, EngineUnavailable, Utterance


class SenseVoiceTorch(SenseVoice):
    """FunASR's ``AutoModel`` with its own front end and network; decoded as in the ONNX engine."""

    def __init__(self, folder: Path, *, threads: int = 1, itn: bool = True, device: str = "cpu") -> None:
        """``folder`` is FunASR's own: config.yaml, model.pt, am.mvn, the tokenizer. Raises EngineUnavailable."""
        try:
            funasr = importlib.import_module("funasr")
            self._torch = importlib.import_module("torch")
        except (ImportError, OSError) as error:
            raise EngineUnavailable(
                f"The engine sensevoice needs PyTorch and FunASR (pip install 'longhand[torch]'): {error}."
            ) from error
        self._torch.set_num_threads(threads)
        with suppress(RuntimeError):  # it can be set once in a process
            self._torch.set_num_interop_threads(1)
        try:
            # loads from the folder alone: downloads nothing, runs no code of the model's
            self.auto: Any = funasr.AutoModel(
                model=str(folder), device=device, disable_update=True, disable_pbar=True, log_level="ERROR"
            )
        except Exception as error:
            raise EngineUnavailable(f"SenseVoice cannot load from {folder}: {error}") from error
        self._device = device
        self._frontend = self.auto.kwargs["frontend"]
        self._frontend.dither = 0.0
        tokenizer = self.auto.kwargs["tokenizer"]
        pieces = [tokenizer.sp.id_to_piece(i) for i in range(tokenizer.sp.get_piece_size())]
        super().__init__(pieces, blank=self.auto.model.blank_id, itn=itn)
        self.info = EngineInfo("sensevoice", folder.name, device, "float32")

    def features(self, utterance: Utterance) -> Features:
        samples = self._torch.from_numpy(np.ascontiguousarray(utterance.samples))[None]
        batch, _ = self._frontend(samples, [samples.shape[1]])
        return np.asarray(batch[0])

    def posteriors(self, features: Sequence[Features], languages: Sequence[str], itn: bool) -> list[Posteriors]:
        torch, model = self._torch, self.auto.model
        lengths = torch.tensor([len(f) for f in features], device=self._device)
        padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(f) for f in features], batch_first=True)
        queries = torch.tensor(
            [[LANGUAGE_IDS[language], 1, 2, ITN_IDS[itn]] for language in languages], device=self._device
        )
        with torch.inference_mode():
            speech = torch.cat([model.embed(queries), padded.to(self._device)], dim=1)
            encoded, _ = model.encoder(speech, lengths + queries.shape[1])
            logits = model.ctc.ctc_lo(encoded).cpu().numpy()
        return [
            best_classes(row[: length + queries.shape[1]]) for row, length in zip(logits, lengths, strict=True)
        ]

    def original_text(self, utterance: Utterance, *, language: str = "auto", itn: bool | None = None) -> str:
        """The text with its tags from FunASR's own inference and decoder."""
        (result,) = self.auto.generate(
            input=utterance.samples, language=language, use_itn=self._itn if itn is None else itn
        )
        return str(result["text"])
