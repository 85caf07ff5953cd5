"""The names of engines, by role. Imports no engine: the API offers these names."""

from enum import StrEnum

HTTP = "http"
"""Any of the models in the operators' file; the name is the same for drafts and refinement."""

MEANING_MODEL = "minilm-l6"
"""Reads segments, and what is looked for by its meaning."""


class DraftEngine(StrEnum):
    SENSEVOICE_ONNX = "sensevoice-onnx"
    SENSEVOICE = "sensevoice"
    WHISPER = "whisper"
    HTTP = HTTP


class RefineEngine(StrEnum):
    WHISPER = "whisper"
    WHISPER_CPP = "whisper-cpp"
    VLLM = "vllm"
    HTTP = HTTP


class VoiceEngine(StrEnum):
    CAMPPLUS_ONNX = "campplus-onnx"
    CAMPPLUS = "campplus"
    WESPEAKER_ONNX = "wespeaker-onnx"


class DiarizeEngine(StrEnum):
    PYANNOTE_ONNX = "pyannote-onnx"
    PYANNOTE = "pyannote"


class VadEngine(StrEnum):
    COMBINED = "silero+pyannote"
    SILERO = "silero"
    FSMN = "fsmn"
    PYANNOTE = "pyannote"


def has_learnt_to_translate(model: str) -> bool:
    """Whether a Whisper of this name writes in English what is said in other languages. What was tuned for speed
    does not, nor what knows English alone."""
    return not any(made in model for made in ("turbo", "distil", ".en"))
