"""The names of engines, by role. Imports no engine: the API offers these names."""

from enum import StrEnum


class DraftEngine(StrEnum):
    SENSEVOICE_ONNX = "sensevoice-onnx"
    SENSEVOICE = "sensevoice"
    WHISPER = "whisper"


class RefineEngine(StrEnum):
    WHISPER = "whisper"
    WHISPER_CPP = "whisper-cpp"


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
