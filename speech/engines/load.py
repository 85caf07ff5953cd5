"""From the names in settings and options to loaded engines, with stand-ins for models that are not present."""

from __future__ import annotations

import logging
from pathlib import Path

from speech.catalogue import Catalogue
from speech.engines.base import EngineUnavailable, Transcriber
from speech.engines.draft import WhisperDraft
from speech.engines.sensevoice import SenseVoiceEngine
from speech.engines.vad import SileroModel
from speech.engines.whisper import DRAFT, REFINE, Decoding, WhisperEngine

logger = logging.getLogger(__name__)

SENSEVOICE = "sensevoice-small"
DRAFT_ENGLISH = "whisper-tiny.en"
DRAFT_MULTILINGUAL = "whisper-base"


def load_vad(catalogue: Catalogue) -> SileroModel:
    """Raises EngineUnavailable."""
    return SileroModel(catalogue.locate("silero-vad") / "silero_vad.onnx")


def load_draft(
    catalogue: Catalogue, *, engine: str, device: str, compute_type: str, threads: int
) -> Transcriber:
    """``auto`` is SenseVoice where its model is present, else Whisper. Raises EngineUnavailable."""
    match engine:
        case "sensevoice-onnx":
            return SenseVoiceEngine(catalogue.locate(SENSEVOICE), threads=threads)
        case "auto" if catalogue.present(SENSEVOICE):
            return load_draft(
                catalogue, engine="sensevoice-onnx", device=device, compute_type=compute_type, threads=threads
            )
        case "auto" | "whisper":
            instead_of = SENSEVOICE if engine == "auto" else None
            if instead_of:
                logger.info("%s is not in %s: Whisper drafts in its place", SENSEVOICE, catalogue.folder)
            models = [
                _whisper(catalogue, name, DRAFT, device, compute_type, threads)
                for name in (DRAFT_ENGLISH, DRAFT_MULTILINGUAL)
            ]
            return WhisperDraft(*models, instead_of=instead_of)
    raise EngineUnavailable(f"There is no draft engine {engine!r}; choose auto, sensevoice-onnx or whisper.")


def load_refine(
    catalogue: Catalogue, *, engine: str, model: str, device: str, compute_type: str, threads: int
) -> Transcriber:
    """``model`` is a size of Whisper (``base``), or a folder in CTranslate2's form. Raises EngineUnavailable."""
    if engine != "whisper":
        raise EngineUnavailable(f"There is no refine engine {engine!r}; choose whisper.")
    return _whisper(catalogue, model, REFINE, device, compute_type, threads)


def _whisper(
    catalogue: Catalogue, name: str, decoding: Decoding, device: str, compute_type: str, threads: int
) -> WhisperEngine:
    if Path(name).is_dir():
        folder = Path(name)
    else:
        folder = catalogue.locate(name if name in catalogue.models else f"whisper-{name}")
    return WhisperEngine(
        folder,
        name=folder.name.removeprefix("whisper-"),
        decoding=decoding,
        device=device,
        compute_type=compute_type,
        threads=threads,
    )
