"""What each gate compares, and when it is passed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from speech.asr.sensevoice import SenseVoiceEngine
from speech.asr.sensevoice_torch import SenseVoiceTorch
from speech.audio.filterbank import fbank
from speech.audio.vad.segmentation import WINDOW_SAMPLES, PyannoteSegmentation
from speech.conversion.export.pyannote import load_network
from speech.conversion.parity import reference
from speech.engines import Samples, Utterance
from speech.speakers.voiceprint import VoiceprintEngine
from speech.speakers.voiceprint_torch import VoiceprintTorch

COSINE_LIMIT = 0.01
FRAMES_EQUAL = 0.999
TOKENS_CHANGED = 0.02
"""Share of tokens that int8 may change: it is an approximation, and cannot be held to equality."""
SLOWER = 1.2
LANGUAGES = ("auto", "en", "zh")

Recordings = Mapping[str, Samples]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one gate found for one model."""

    gate: str
    model: str
    passed: bool
    finding: str
    figures: Mapping[str, float] = field(default_factory=dict)


def sensevoice(
    original: Path, export: Path, recordings: Recordings, *, model: str, quantised: bool | None = None
) -> Finding:
    """G1: the export's texts, tags and all, are those that FunASR's own inference writes.

    An int8 export is compared token by token instead.
    """
    theirs, ours = SenseVoiceTorch(original), SenseVoiceEngine(export, quantised=quantised)
    texts = equal = tokens = changed = 0
    apart = 0.0
    for samples in recordings.values():
        clip = samples[: 30 * 16_000]
        utterance = Utterance(clip)
        found = ours.features(utterance)
        apart = max(apart, float(np.abs(found - theirs.features(utterance)).max()))
        for language in LANGUAGES:
            for itn in (True, False):
                (output,) = ours.posteriors([found], [language], itn)
                text = theirs.original_text(utterance, language=language, itn=itn)
                texts += 1
                equal += ours.text(output) == text
                tokens += len(text)
                changed += Levenshtein.distance(ours.text(output), text)
    kaldi = features_apart(recordings)
    share = changed / max(tokens, 1)
    return Finding(
        "G1",
        model,
        share <= TOKENS_CHANGED if ours.info.compute_type == "int8" else equal == texts,
        f"{equal} of {texts} texts equal, {share:.2%} of characters changed, features {apart:.1e} apart "
        f"(from Kaldi's definition {kaldi:.1e})",
        {"texts": texts, "equal": equal, "changed": share, "features_apart": apart, "kaldi_apart": kaldi},
    )


def features_apart(recordings: Recordings) -> float:
    """Largest difference of the library's log-mel features from Kaldi's definition in float64."""
    return max(
        float(np.abs(fbank(clip, window=w, scale=32768) - reference.fbank(clip, window=w, scale=32768)).max())
        for clip in recordings.values()
        for w in ("hamming", "povey")
    )


def campplus(original: Path, export: Path, recordings: Recordings, *, model: str = "campplus") -> Finding:
    """G2: the export's voiceprints, of whole recordings and of windows of 1.5 s, point where the original's do."""
    theirs = VoiceprintTorch(original)
    ours = VoiceprintEngine(export / "campplus.onnx", engine="", model=model, window="povey")
    worst = 0.0
    for samples in recordings.values():
        pieces = [samples, *(samples[at : at + 24_000] for at in range(0, len(samples) - 24_000, 24_000))]
        cosine = (ours.embed(pieces).astype(np.float64) * theirs.embed(pieces)).sum(axis=1)
        worst = max(worst, float((1 - cosine).max()))
    return Finding(
        "G2",
        model,
        worst < COSINE_LIMIT,
        f"largest cosine distance {worst:.1e} over {len(recordings)} recordings",
        {"cosine_distance": worst, "recordings": len(recordings)},
    )


def pyannote(
    original: Path, export: Path, recordings: Recordings, *, model: str = "pyannote-segmentation"
) -> Finding:
    """G5: the export puts the frames into the original's classes."""
    network = load_network(original)
    ours = PyannoteSegmentation(export / "segmentation.onnx")
    frames = equal = 0
    apart = 0.0
    for samples in recordings.values():
        windows = ten_seconds(samples)
        found = ours.classes(windows)
        with torch.inference_mode():
            wanted = network(torch.from_numpy(windows)[:, None]).numpy()
        frames += found.shape[0] * found.shape[1]
        equal += int((found.argmax(-1) == wanted.argmax(-1)).sum())
        apart = max(apart, float(np.abs(np.exp(found) - np.exp(wanted)).max()))
    return Finding(
        "G5",
        model,
        equal >= FRAMES_EQUAL * frames,
        f"{equal} of {frames} frames equal, probabilities {apart:.1e} apart",
        {"frames": frames, "equal": equal, "apart": apart},
    )


def ten_seconds(samples: Samples) -> NDArray[np.float32]:
    """(windows, 160000), the last one padded with silence."""
    count = -(-len(samples) // WINDOW_SAMPLES)
    return np.pad(samples, (0, count * WINDOW_SAMPLES - len(samples))).reshape(count, WINDOW_SAMPLES)


def speed(model: str, ours: Callable[[], object], theirs: Callable[[], object]) -> Finding:
    """G3: three rounds of each in turn, after a warm-up; the ratio of the medians."""
    rounds: list[list[float]] = [[], []]
    ours(), theirs()
    for _ in range(3):
        for times, work in zip(rounds, (ours, theirs), strict=True):
            begun = time.perf_counter()
            work()
            times.append(time.perf_counter() - begun)
    onnx, pytorch = (float(np.median(times)) for times in rounds)
    return Finding(
        "G3",
        model,
        onnx <= SLOWER * pytorch,
        f"ONNX takes {onnx / pytorch:.2f} of PyTorch's time ({onnx:.2f} s, {pytorch:.2f} s)",
        {"ratio": onnx / pytorch, "onnx_seconds": onnx, "pytorch_seconds": pytorch},
    )


def sounds(seconds: Sequence[float] = (1.5, 4.0, 12.0)) -> dict[str, Samples]:
    """Seeded noise that swells and falls, for a comparison where no recording is at hand."""
    random = np.random.default_rng(7)
    made = {}
    for length in seconds:
        count = int(length * 16_000)
        swell = np.sin(2 * np.pi * np.arange(count) / 16_000) ** 2
        made[f"{length:g} s of noise"] = (0.1 * swell * random.standard_normal(count)).astype(np.float32)
    return made
