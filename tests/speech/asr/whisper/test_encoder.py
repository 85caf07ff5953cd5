"""Whisper's encoder in ONNX Runtime, beside CTranslate2's."""

from __future__ import annotations

from pathlib import Path

import ctranslate2
import numpy as np
import pytest
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

from speech.asr.whisper import encoder
from speech.asr.whisper.encoder import NORM, Encoder, encoder_model, is_small
from speech.asr.whisper.engine import WhisperEngine
from speech.engines import EngineUnavailable, Utterance
from speech.models.ctranslate2_file import Tensor, read_variables
from speech.models.onnx import open_session
from tests.conftest import MODELS
from tests.media import load

FOLDER = MODELS / "whisper-tiny.en"


def features(frames: int) -> NDArray[np.float32]:
    found: NDArray[np.float32] = FeatureExtractor()(load("jfk.flac"))[:, :frames]
    return np.pad(found, ((0, 0), (0, frames - found.shape[1])))


def of_ctranslate2(compute_type: str, heard: NDArray[np.float32]) -> NDArray[np.float32]:
    model = ctranslate2.models.Whisper(str(FOLDER), device="cpu", compute_type=compute_type)
    return np.array(model.encode(ctranslate2.StorageView.from_array(heard[None])))


def error(found: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    return float(np.abs(found - right).mean() / np.abs(right).mean())


@pytest.mark.parametrize("frames", [900, 3000])
def test_it_is_as_near_to_what_the_weights_say_as_ctranslate2(frames: int) -> None:
    heard = features(frames)
    right = of_ctranslate2("float32", heard)
    found = Encoder(FOLDER, threads=1).encode(heard)
    assert found.shape == right.shape == (1, frames // 2, 384)
    assert error(found, right) < 1.1 * error(of_ctranslate2("int8", heard), right) < 0.1


def test_silence_is_encoded() -> None:
    assert np.isfinite(Encoder(FOLDER, threads=1).encode(np.zeros((80, 200), np.float32))).all()


def test_a_file_may_hold_integers(tmp_path: Path) -> None:
    """As `--quantization int8` writes it: each row's largest weight is 127."""
    stored: dict[str, Tensor] = {}
    for name, values in read_variables(FOLDER / "model.bin", "encoder/").items():
        if name.endswith(("linear_0/weight", "linear_1/weight", "conv1/weight", "conv2/weight")):
            scale = 127 / np.abs(values).reshape(len(values), -1).max(axis=1)
            stored[f"{name}_scale"] = scale
            stored[name] = np.round(values * scale.reshape(-1, *[1] * (values.ndim - 1)))
        else:
            stored[name] = values
    heard = features(900)
    (tmp_path / "encoder.onnx").write_bytes(encoder_model(stored))
    (found,) = open_session(tmp_path / "encoder.onnx").run(None, {"features": heard[None]})
    assert error(found, Encoder(FOLDER, threads=1).encode(heard)) < 0.06


def test_large_models_keep_the_encoder_of_ctranslate2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "MAX_WIDTH", 100)
    engine = WhisperEngine(FOLDER, name="tiny.en", device="cpu")
    assert engine._model._encoder is None
    (hypothesis,) = engine.transcribe([Utterance(load("jfk.flac"), language="en")])
    assert hypothesis.phrases[0].text.startswith("And so")


def test_what_is_no_whisper_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.bin").write_bytes(b"nothing")
    with pytest.raises(EngineUnavailable, match="cannot load"):
        WhisperEngine(tmp_path, name="broken", device="cpu")
    for unusable in (is_small, lambda folder: Encoder(folder, threads=1)):
        with pytest.raises(ValueError, match=r"no model of CTranslate2, or is cut off"):
            unusable(tmp_path)
    monkeypatch.setattr(encoder, "read_variables", lambda path, prefix: {NORM: np.ones(384, np.float32)})
    with pytest.raises(ValueError, match=r"is no Whisper: it has no 'encoder/conv1/weight'"):
        Encoder(tmp_path, threads=1)
