"""From names in settings and options to loaded engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from speech.asr.sensevoice import SenseVoiceEngine
from speech.asr.sensevoice_torch import SenseVoiceTorch
from speech.asr.whisper.decoding import DRAFT, REFINE
from speech.asr.whisper.draft import WhisperDraft
from speech.asr.whisper.engine import WhisperEngine
from speech.asr.whisper_cpp import WhisperCppEngine
from speech.audio.vad.combined import CombinedVad
from speech.audio.vad.fsmn import FsmnModel
from speech.audio.vad.pyannote import PyannoteVad
from speech.audio.vad.segmentation import PyannoteSegmentation
from speech.audio.vad.silero import SileroModel
from speech.engines import Embedder, EngineInfo, EngineUnavailable, Transcriber, VoiceModel
from speech.models.catalogue import Catalogue
from speech.models.names import DraftEngine, RefineEngine, VadEngine, VoiceEngine
from speech.speakers.voiceprint import VoiceprintEngine
from speech.speakers.voiceprint_torch import VoiceprintTorch

DRAFT_ENGLISH = "whisper-tiny.en"
DRAFT_MULTILINGUAL = "whisper-base"


class Engine(Protocol):
    """What every engine has."""

    info: EngineInfo


E = TypeVar("E", bound=Engine)
Name = TypeVar("Name", bound=StrEnum)


def engine_order(names: str, kind: type[Name], setting: str) -> list[Name]:
    """The engines that a setting lists, best first. Raises EngineUnavailable for a name that is none."""
    known = [engine.value for engine in kind]
    found = [name.strip() for name in names.split(",") if name.strip()]
    if not found or not set(found) <= set(known):
        raise EngineUnavailable(f"{setting} is {names!r}; it takes one or more of {', '.join(known)}.")
    return [kind(name) for name in found]


@dataclass(frozen=True, slots=True)
class Serving(Generic[E]):
    """An engine chosen for some work, and what a job records of it."""

    engine: E
    info: EngineInfo


def first_available(names: Sequence[Name], load: Callable[[Name], E]) -> Serving[E]:
    """The best engine that can serve; ``info`` says so where it stands in for the first.

    Raises EngineUnavailable with every engine's reason when none can.
    """
    reasons = []
    for name in names:
        try:
            engine = load(name)
        except EngineUnavailable as error:
            reasons.append(str(error))
        else:
            return Serving(engine, replace(engine.info, instead_of=names[0].value if reasons else None))
    raise EngineUnavailable(" ".join(reasons))


def load_vad(catalogue: Catalogue, name: VadEngine = VadEngine.SILERO_PYANNOTE) -> VoiceModel:
    """Raises EngineUnavailable."""
    match name:
        case VadEngine.SILERO_PYANNOTE:
            return CombinedVad(load_vad(catalogue, VadEngine.SILERO), load_vad(catalogue, VadEngine.PYANNOTE))
        case VadEngine.SILERO:
            return SileroModel(catalogue.locate("silero-vad") / "silero_vad.onnx")
        case VadEngine.FSMN:
            return FsmnModel(catalogue.locate("fsmn-vad"))
        case VadEngine.PYANNOTE:
            return PyannoteVad(load_segmentation(catalogue))


def load_draft(
    catalogue: Catalogue,
    name: DraftEngine,
    *,
    sensevoice: str = "sensevoice-small",
    threads: int = 1,
    itn: bool = True,
) -> Transcriber:
    """``sensevoice`` is a model of the catalogue, or a folder with an export. Raises EngineUnavailable."""
    match name:
        case DraftEngine.SENSEVOICE_ONNX:
            return SenseVoiceEngine(_folder(catalogue, sensevoice), threads=threads, itn=itn)
        case DraftEngine.SENSEVOICE:
            return SenseVoiceTorch(catalogue.locate("sensevoice-small-torch"), threads=threads, itn=itn)
        case DraftEngine.WHISPER:
            models = [
                WhisperEngine(
                    catalogue.locate(model),
                    name=_model_size(model),
                    decoding=DRAFT,
                    device="cpu",
                    threads=threads,
                )
                for model in (DRAFT_ENGLISH, DRAFT_MULTILINGUAL)
            ]
            return WhisperDraft(*models)


def load_refine(
    catalogue: Catalogue,
    name: RefineEngine,
    *,
    model: str = "base",
    device: str = "auto",
    compute_type: str = "auto",
    threads: int = 1,
) -> Transcriber:
    """``model`` is a size of Whisper (``base``), or a folder in the engine's form. Raises EngineUnavailable."""
    known = model if model in catalogue.models or Path(model).is_dir() else f"whisper-{model}"
    match name:
        case RefineEngine.WHISPER:
            return WhisperEngine(
                _folder(catalogue, known),
                name=_model_size(model),
                decoding=REFINE,
                device=device,
                compute_type=compute_type,
                threads=threads,
            )
        case RefineEngine.WHISPER_CPP:
            ggml = known if Path(known).is_dir() or known.endswith("-ggml") else f"{known}-ggml"
            return WhisperCppEngine(_folder(catalogue, ggml), name=_model_size(model), threads=threads)


def load_voice(catalogue: Catalogue, name: VoiceEngine, *, threads: int = 1) -> Embedder:
    """Raises EngineUnavailable."""
    match name:
        case VoiceEngine.CAMPPLUS_ONNX:
            path, window = catalogue.locate("campplus") / "campplus.onnx", "povey"
        case VoiceEngine.WESPEAKER_ONNX:
            path, window = catalogue.locate("wespeaker-resnet34") / "wespeaker.onnx", "hamming"
        case VoiceEngine.CAMPPLUS:
            return VoiceprintTorch(catalogue.locate("campplus-torch"), threads=threads)
    return VoiceprintEngine(path, engine=name.value, model=path.parent.name, window=window, threads=threads)


def load_segmentation(catalogue: Catalogue, *, threads: int = 1) -> PyannoteSegmentation:
    """Raises EngineUnavailable."""
    return PyannoteSegmentation(catalogue.locate("pyannote-segmentation") / "segmentation.onnx", threads=threads)


def _folder(catalogue: Catalogue, name: str) -> Path:
    return Path(name) if Path(name).is_dir() else catalogue.locate(name)


def _model_size(model: str) -> str:
    return Path(model).name.removeprefix("whisper-").removesuffix("-ggml")
