"""Voiceprints, speaker segmentation and voice detectors on real weights."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from speech.asr.sensevoice.torch_engine import SenseVoiceTorch
from speech.audio.vad.segmentation import FRAMES, WINDOW_SAMPLES, PyannoteSegmentation
from speech.engines import Embedder, EngineUnavailable
from speech.load import load_segmentation, load_vad, load_voice
from speech.models.catalogue import Catalogue
from speech.models.names import VadEngine, VoiceEngine
from speech.speakers.pyannote_audio import PyannotePipeline
from speech.speakers.voiceprint_torch import VoiceprintTorch
from tests.conftest import MODELS
from tests.media import load

CATALOGUE = Catalogue(MODELS)


def require(model: str) -> None:
    if not CATALOGUE.present(model):
        pytest.skip(f"{model} is missing: `longhand models pull {model}`")


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    require("campplus")
    return load_voice(CATALOGUE, VoiceEngine.CAMPPLUS_ONNX, threads=2)


@pytest.fixture(scope="module")
def segmentation() -> PyannoteSegmentation:
    require("pyannote-segmentation")
    return load_segmentation(CATALOGUE, threads=2)


def test_a_voiceprint_is_most_similar_to_the_same_voice(embedder: Embedder) -> None:
    one, other = load("ocean_0001.flac"), load("ocean_0036.flac")
    half = len(one) // 2
    first, second, stranger = embedder.embed([one[:half], one[half:], other[:half]])
    assert embedder.dimensions == 192
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-5)
    assert first @ second > 0.6 > 0.4 > first @ stranger


def test_embedding_windows_of_different_lengths_in_one_call(embedder: Embedder) -> None:
    samples = load("jfk.flac")
    windows = [samples[:24_000], samples[:40_000], samples[24_000:48_000], samples[:100], samples[:24_000]]
    together = embedder.embed(windows)
    alone = np.concatenate([embedder.embed([window]) for window in windows])
    assert together == pytest.approx(alone, abs=1e-4)
    assert embedder.embed([]).shape == (0, 192)


def test_segmentation_of_silence_and_speech(segmentation: PyannoteSegmentation) -> None:
    speech = load("jfk.flac")[:WINDOW_SAMPLES]
    silent, spoken = segmentation.segment(np.stack([np.zeros_like(speech), speech]))
    assert silent.shape == (FRAMES, 3)
    assert silent.max() < 0.5
    assert spoken.max(axis=1).mean() > 0.6
    assert (spoken >= 0).all()
    assert spoken.max() <= 1.001


def test_segmentation_of_two_voices(segmentation: PyannoteSegmentation) -> None:
    five = WINDOW_SAMPLES // 2
    window = np.concatenate([load("librivox_0870.flac")[:five], load("ocean_0001.flac")[:five]])
    probabilities = segmentation.segment(window[None])[0]
    active = (probabilities > 0.5).mean(axis=0)
    assert (active > 0.1).sum() == 2


@pytest.mark.parametrize("name", VadEngine)
def test_a_detector_does_not_depend_on_the_blocks(name: VadEngine) -> None:
    require({VadEngine.FSMN: "fsmn-vad", VadEngine.PYANNOTE: "pyannote-segmentation"}.get(name, "silero-vad"))
    model = load_vad(CATALOGUE, name)
    samples = load("jfk.flac")
    whole, stream = model.stream(), model.stream()
    at_once = np.concatenate([whole.push(samples), whole.flush()])
    blocks = [samples[at : at + 3777] for at in range(0, len(samples), 3777)]
    in_parts = np.concatenate([*[stream.push(block) for block in blocks], stream.flush()])
    assert in_parts == pytest.approx(at_once, abs=1e-4)
    assert abs(len(at_once) - len(samples) / stream.frame_samples) < 4
    assert 0.4 < (at_once > 0.5).mean() < 0.9
    empty = model.stream()
    assert len(empty.flush()) <= 1


def test_a_missing_embedding_model_is_unavailable() -> None:
    with pytest.raises(EngineUnavailable, match="models pull wespeaker-resnet34"):
        load_voice(Catalogue(MODELS / "nowhere"), VoiceEngine.WESPEAKER_ONNX)


def test_pyannote_without_its_extra_is_unavailable() -> None:
    if importlib.util.find_spec("torch"):
        pytest.skip("PyTorch is installed")
    with pytest.raises(EngineUnavailable, match=r"pip install 'longhand\[pyannote\]'"):
        PyannotePipeline()


def test_pytorch_engines_without_their_extra_are_unavailable() -> None:
    if importlib.util.find_spec("torch"):
        pytest.skip("PyTorch is installed")
    for name, engine in (("sensevoice", SenseVoiceTorch), ("campplus", VoiceprintTorch)):
        with pytest.raises(EngineUnavailable, match=rf"The engine {name} needs PyTorch"):
            engine(MODELS)
