"""Loading engines by the names in settings and options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from speech.asr.sensevoice.onnx_engine import SenseVoiceEngine
from speech.asr.sensevoice.torch_engine import SenseVoiceTorch
from speech.asr.vllm_engine import VllmEngine
from speech.asr.whisper.aligner import WhisperAligner
from speech.asr.whisper.decoding import DRAFT, REFINE, DecodingOptions
from speech.asr.whisper.draft_engine import WhisperDraftEngine
from speech.asr.whisper.engine import WhisperEngine
from speech.asr.whisper_cpp import WhisperCppEngine
from speech.audio.vad.combined import CombinedVad
from speech.audio.vad.fsmn import FsmnModel
from speech.audio.vad.pyannote import SegmentationVad
from speech.audio.vad.segmentation import PyannoteSegmentation
from speech.audio.vad.silero import SileroModel
from speech.engines import Aligner, Embedder, EngineInfo, EngineUnavailable, Transcriber, VoiceModel
from speech.models.catalogue import Catalogue
from speech.models.names import DraftEngine, RefineEngine, VadEngine, VoiceEngine
from speech.speakers.voiceprint import VoiceprintEngine
from speech.speakers.voiceprint_torch import VoiceprintTorch

BEHIND_HTTP = "There is no model behind HTTP: LONGHAND_ENDPOINTS names none that serves this."

DRAFT_ENGLISH_MODEL = "whisper-tiny.en"
DRAFT_MULTILINGUAL_MODEL = "whisper-base"
TUNED_SENSEVOICE, TUNED_WHISPER = "sensevoice", "whisper"
"""What loads a tuned model."""


class Engine(Protocol):
    """Any engine."""

    info: EngineInfo


E = TypeVar("E", bound=Engine)
Name = TypeVar("Name", bound=StrEnum)
S = TypeVar("S", bound=str)


def parse_engine_names(names: str, kind: type[Name], setting: str) -> list[Name]:
    """The engines that a setting lists, best first. Raises EngineUnavailable for an unknown name."""
    known = [engine.value for engine in kind]
    parsed = [name.strip() for name in names.split(",") if name.strip()]
    if not parsed or not set(parsed) <= set(known):
        raise EngineUnavailable(f"{setting} is {names!r}; it takes one or more of {', '.join(known)}.")
    return [kind(name) for name in parsed]


@dataclass(frozen=True, slots=True)
class SelectedEngine(Generic[E]):
    """An engine selected for some work, and what a job records about it."""

    engine: E
    info: EngineInfo
    next: Callable[[], SelectedEngine[E]] | None = None
    """Selects the one after it in the order of preference, for when this one is away. Raises EngineUnavailable."""


def load_first_available(names: Sequence[S], load: Callable[[S], E], *, first: int = 0) -> SelectedEngine[E]:
    """The engine that loads first, from place ``first`` on; ``info.instead_of`` is the first of all, if another.

    Raises EngineUnavailable with every engine's reason when none loads.
    """
    reasons = []
    for place, name in enumerate(names[first:], start=first):
        try:
            engine = load(name)
        except EngineUnavailable as error:
            reasons.append(str(error))
        else:
            info = replace(engine.info, instead_of=str(names[0]) if place else None)
            after = partial(load_first_available, names, load, first=place + 1) if place + 1 < len(names) else None
            return SelectedEngine(engine, info, after)
    raise EngineUnavailable(" ".join(reasons))


def load_vad(catalogue: Catalogue, name: VadEngine = VadEngine.COMBINED) -> VoiceModel:
    """Raises EngineUnavailable."""
    match name:
        case VadEngine.COMBINED:
            return CombinedVad(load_vad(catalogue, VadEngine.SILERO), load_vad(catalogue, VadEngine.PYANNOTE))
        case VadEngine.SILERO:
            return SileroModel(catalogue.locate("silero-vad") / "silero_vad.onnx")
        case VadEngine.FSMN:
            return FsmnModel(catalogue.locate("fsmn-vad"))
        case VadEngine.PYANNOTE:
            return SegmentationVad(load_segmentation(catalogue))


def load_draft(
    catalogue: Catalogue,
    name: DraftEngine,
    *,
    sensevoice: str = "sensevoice-small",
    threads: int = 1,
    itn: bool = True,
    decoding: DecodingOptions = DRAFT,
) -> Transcriber:
    """``sensevoice`` is a model of the catalogue, or a folder with an export; ``decoding`` is Whisper's.

    Raises EngineUnavailable.
    """
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
                    decoding=decoding,
                    device="cpu",
                    threads=threads,
                )
                for model in (DRAFT_ENGLISH_MODEL, DRAFT_MULTILINGUAL_MODEL)
            ]
            return WhisperDraftEngine(*models)
        case DraftEngine.HTTP:
            raise EngineUnavailable(BEHIND_HTTP)


def load_tuned_draft(catalogue: Catalogue, engine: str, folder: Path, *, threads: int, itn: bool) -> Transcriber:
    """A tuned draft model from its folder. Raises EngineUnavailable."""
    if engine == TUNED_SENSEVOICE:
        return SenseVoiceEngine(folder, threads=threads, itn=itn)
    tuned = WhisperEngine(folder, name="tuned", decoding=DRAFT, device="cpu", threads=threads)
    if tuned.multilingual:
        return tuned
    multilingual = WhisperEngine(
        catalogue.locate(DRAFT_MULTILINGUAL_MODEL),
        name=_model_size(DRAFT_MULTILINGUAL_MODEL),
        decoding=DRAFT,
        device="cpu",
        threads=threads,
    )
    return WhisperDraftEngine(tuned, multilingual)


def load_tuned_refine(
    folder: Path, *, device: str, compute_type: str, threads: int, second_readings: bool
) -> Transcriber:
    """A tuned Whisper from its folder. Raises EngineUnavailable."""
    return WhisperEngine(
        folder,
        name="tuned",
        decoding=replace(REFINE, second_readings=second_readings),
        device=device,
        compute_type=compute_type,
        threads=threads,
    )


def load_refine(
    catalogue: Catalogue,
    name: RefineEngine,
    *,
    model: str = "base",
    device: str = "auto",
    compute_type: str = "auto",
    threads: int = 1,
    second_readings: bool = False,
    vllm_model: str = "Qwen/Qwen3-ASR-0.6B",
) -> Transcriber:
    """``model`` is a size of Whisper (``base``), or a folder in the engine's format. Raises EngineUnavailable."""
    found = catalogue_name(catalogue, model)
    match name:
        case RefineEngine.WHISPER:
            return WhisperEngine(
                _folder(catalogue, found),
                name=_model_size(model),
                decoding=replace(REFINE, second_readings=second_readings),
                device=device,
                compute_type=compute_type,
                threads=threads,
            )
        case RefineEngine.WHISPER_CPP:
            is_ggml = Path(found).is_dir() or found.endswith("-ggml")
            ggml = found if is_ggml else f"{found}-ggml"
            return WhisperCppEngine(_folder(catalogue, ggml), name=_model_size(model), threads=threads)
        case RefineEngine.VLLM:
            return VllmEngine(vllm_model, partial(load_aligner, catalogue, model=model, threads=threads))
        case RefineEngine.HTTP:
            raise EngineUnavailable(BEHIND_HTTP)


def load_aligner(
    catalogue: Catalogue,
    *,
    model: str = "base",
    device: str = "auto",
    compute_type: str = "auto",
    threads: int = 1,
) -> Aligner:
    """Whisper, as what times the words of texts without times. Raises EngineUnavailable."""
    return WhisperAligner(
        _folder(catalogue, catalogue_name(catalogue, model)),
        name=_model_size(model),
        device=device,
        compute_type=compute_type,
        threads=threads,
    )


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


def catalogue_name(catalogue: Catalogue, model: str) -> str:
    """Of a size of Whisper; a model of the catalogue and a folder have their own name."""
    return model if model in catalogue.models or Path(model).is_dir() else f"whisper-{model}"


def _model_size(model: str) -> str:
    return Path(model).name.removeprefix("whisper-").removesuffix("-ggml")
