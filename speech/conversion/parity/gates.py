"""The gates: what each compares, and its bound."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ctranslate2
import numpy as np
import torch
from faster_whisper.audio import pad_or_trim
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from transformers import WhisperForConditionalGeneration

from speech.asr.sensevoice.onnx_engine import SenseVoiceEngine
from speech.asr.sensevoice.torch_engine import SenseVoiceTorch
from speech.asr.whisper.decoding import Task
from speech.asr.whisper.model import LoadedModel
from speech.audio.filterbank import fbank
from speech.audio.vad.segmentation import WINDOW_SAMPLES, PyannoteSegmentation
from speech.conversion.export.pyannote import load_network
from speech.conversion.parity import reference
from speech.engines import Samples, Utterance
from speech.speakers.voiceprint import VoiceprintEngine
from speech.speakers.voiceprint_torch import VoiceprintTorch

MAX_COSINE_DISTANCE = 0.01
MIN_EQUAL_FRAMES_SHARE = 0.999
MAX_CHANGED_SHARE = 0.02
"""Share of characters that int8, as an approximation, may change."""
WHISPER_BOUNDS = {"float32": 0.005, "int8": 0.08}
"""Share of characters that may change, by compute type. Of speech that a model is unsure of, int8 changes some (2
to 4 % for tiny and strong accents); whether for the worse is seen by who hears what serves."""
MAX_TIME_RATIO = 1.2
LANGUAGES = ("auto", "en", "zh")

Recordings = Mapping[str, Samples]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one gate for one model."""

    gate: str
    model: str
    passed: bool
    finding: str
    figures: Mapping[str, float] = field(default_factory=dict)


def sensevoice(
    original: Path, export: Path, recordings: Recordings, *, model: str, quantised: bool | None = None
) -> Finding:
    """G1: the export writes the same texts, including tags, as FunASR's own inference.

    An int8 export may change a share of the characters instead.
    """
    theirs, ours = SenseVoiceTorch(original), SenseVoiceEngine(export, quantised=quantised)
    texts = equal = tokens = changed = 0
    max_difference = 0.0
    for samples in recordings.values():
        clip = samples[: 30 * 16_000]
        utterance = Utterance(clip)
        features = ours.features(utterance)
        max_difference = max(max_difference, float(np.abs(features - theirs.features(utterance)).max()))
        for language in LANGUAGES:
            for itn in (True, False):
                (output,) = ours.posteriors([features], [language], itn)
                text = theirs.original_text(utterance, language=language, itn=itn)
                texts += 1
                equal += ours.raw_text(output) == text
                tokens += len(text)
                changed += Levenshtein.distance(ours.raw_text(output), text)
    kaldi_difference = max_feature_difference(recordings)
    share = changed / max(tokens, 1)
    return Finding(
        "G1",
        model,
        share <= MAX_CHANGED_SHARE if ours.info.compute_type == "int8" else equal == texts,
        f"{equal} of {texts} texts equal, {share:.2%} of characters changed, features {max_difference:.1e} apart "
        f"(from Kaldi's definition {kaldi_difference:.1e})",
        {
            "texts": texts,
            "equal": equal,
            "changed": share,
            "features_apart": max_difference,
            "kaldi_apart": kaldi_difference,
        },
    )


def max_feature_difference(recordings: Recordings) -> float:
    """Largest difference of the library's log-mel features from Kaldi's definition in float64."""
    return max(
        float(np.abs(fbank(clip, window=w, scale=32768) - reference.fbank(clip, window=w, scale=32768)).max())
        for clip in recordings.values()
        for w in ("hamming", "povey")
    )


def whisper(
    original: WhisperForConditionalGeneration, export: Path, recordings: Recordings, *, model: str
) -> Finding:
    """G6: CTranslate2 writes the same texts as PyTorch, greedily and without timestamps.

    In float32 a share of the characters may differ, since the file has float16; int8 may change some more.
    """
    texts = 0
    equal = dict.fromkeys(WHISPER_BOUNDS, 0)
    changed = dict.fromkeys(WHISPER_BOUNDS, 0)
    characters = 0
    ours = {
        kind: LoadedModel(
            export, name=model, device="cpu", compute_type=kind, threads=torch.get_num_threads(), workers=1
        )
        for kind in WHISPER_BOUNDS
    }
    for samples in recordings.values():
        reference = _greedy_text(original, ours["float32"], samples)
        texts += 1
        characters += len(reference)
        for kind, loaded in ours.items():
            written = _ctranslate2_text(loaded, samples)
            equal[kind] += written == reference
            # a loop in one of them is a text that is another, and no more
            changed[kind] += min(Levenshtein.distance(written, reference), len(reference))
    shares = {kind: changed[kind] / max(characters, 1) for kind in WHISPER_BOUNDS}
    return Finding(
        "G6",
        model,
        all(shares[kind] <= bound for kind, bound in WHISPER_BOUNDS.items()),
        "; ".join(
            f"{kind}: {equal[kind]} of {texts} texts equal, {shares[kind]:.2%} of characters changed"
            for kind in WHISPER_BOUNDS
        ),
        {"texts": texts, **shares},
    )


GREEDY_TOKENS = 200
"""Written of a clip at most."""


def _prompt(loaded: LoadedModel) -> list[int]:
    tokenizer = loaded.tokenizer(Task("en"))
    return [*tokenizer.sot_sequence, tokenizer.no_timestamps]


def _features(loaded: LoadedModel, samples: Samples) -> NDArray[np.float32]:
    features: NDArray[np.float32] = pad_or_trim(loaded.features(samples), loaded.window_frames)
    return features[None]


def _ctranslate2_text(loaded: LoadedModel, samples: Samples) -> str:
    (result,) = loaded.decoder.generate(
        ctranslate2.StorageView.from_array(_features(loaded, samples)),
        [_prompt(loaded)],
        beam_size=1,
        max_length=2 * GREEDY_TOKENS,  # CTranslate2 generates at most half of it
        suppress_blank=False,
        suppress_tokens=[],
    )
    return str(loaded.tokenizer(Task("en")).decode(list(result.sequences_ids[0])))


def _greedy_text(network: WhisperForConditionalGeneration, loaded: LoadedModel, samples: Samples) -> str:
    tokenizer = loaded.tokenizer(Task("en"))
    network.eval()
    device = network.device
    tokens, cache, given = list[int](), None, _prompt(loaded)
    with torch.inference_mode():
        encoded = network.model.encoder(torch.from_numpy(_features(loaded, samples)).to(device))
        while len(tokens) < GREEDY_TOKENS:
            output = network(
                encoder_outputs=encoded,
                decoder_input_ids=torch.tensor([given], device=device),
                past_key_values=cache,
                use_cache=True,
            )
            token = int(output.logits[0, -1].argmax())
            if token == tokenizer.eot:
                break
            tokens.append(token)
            cache, given = output.past_key_values, [token]
    return str(tokenizer.decode(tokens))


def campplus(original: Path, export: Path, recordings: Recordings, *, model: str = "campplus") -> Finding:
    """G2: the export's voiceprints of whole recordings and of 1.5 s windows have the original's direction."""
    theirs = VoiceprintTorch(original)
    ours = VoiceprintEngine(export / "campplus.onnx", engine="", model=model, window="povey")
    max_distance = 0.0
    for samples in recordings.values():
        windows = [samples, *(samples[i : i + 24_000] for i in range(0, len(samples) - 24_000, 24_000))]
        cosine = (ours.embed(windows).astype(np.float64) * theirs.embed(windows)).sum(axis=1)
        max_distance = max(max_distance, float((1 - cosine).max()))
    return Finding(
        "G2",
        model,
        max_distance < MAX_COSINE_DISTANCE,
        f"largest cosine distance {max_distance:.1e} over {len(recordings)} recordings",
        {"cosine_distance": max_distance, "recordings": len(recordings)},
    )


def pyannote(
    original: Path, export: Path, recordings: Recordings, *, model: str = "pyannote-segmentation"
) -> Finding:
    """G5: the export assigns the same classes to frames as the original."""
    network = load_network(original)
    ours = PyannoteSegmentation(export / "segmentation.onnx")
    frames = equal = 0
    max_difference = 0.0
    for samples in recordings.values():
        windows = split_windows(samples)
        scores = ours.class_log_probabilities(windows)
        with torch.inference_mode():
            reference_scores = network(torch.from_numpy(windows)[:, None]).numpy()
        frames += scores.shape[0] * scores.shape[1]
        equal += int((scores.argmax(-1) == reference_scores.argmax(-1)).sum())
        max_difference = max(max_difference, float(np.abs(np.exp(scores) - np.exp(reference_scores)).max()))
    return Finding(
        "G5",
        model,
        equal >= MIN_EQUAL_FRAMES_SHARE * frames,
        f"{equal} of {frames} frames equal, probabilities {max_difference:.1e} apart",
        {"frames": frames, "equal": equal, "apart": max_difference},
    )


def split_windows(samples: Samples) -> NDArray[np.float32]:
    """Windows of ten seconds, (windows, 160000), the last one padded with silence."""
    count = -(-len(samples) // WINDOW_SAMPLES)
    return np.pad(samples, (0, count * WINDOW_SAMPLES - len(samples))).reshape(count, WINDOW_SAMPLES)


def speed(model: str, ours: Callable[[], object], theirs: Callable[[], object]) -> Finding:
    """G3: the ratio of the median times of three alternating rounds, after a warm-up."""
    rounds: list[list[float]] = [[], []]
    ours(), theirs()
    for _ in range(3):
        for times, run in zip(rounds, (ours, theirs), strict=True):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
    onnx, pytorch = (float(np.median(times)) for times in rounds)
    return Finding(
        "G3",
        model,
        onnx <= MAX_TIME_RATIO * pytorch,
        f"ONNX takes {onnx / pytorch:.2f} of PyTorch's time ({onnx:.2f} s, {pytorch:.2f} s)",
        {"ratio": onnx / pytorch, "onnx_seconds": onnx, "pytorch_seconds": pytorch},
    )


def noise_recordings(seconds: Sequence[float] = (1.5, 4.0, 12.0)) -> dict[str, Samples]:
    """Seeded noise with a periodic envelope, for comparisons without recordings."""
    random = np.random.default_rng(7)
    recordings = {}
    for length in seconds:
        count = int(length * 16_000)
        envelope = np.sin(2 * np.pi * np.arange(count) / 16_000) ** 2
        recordings[f"{length:g} s of noise"] = (0.1 * envelope * random.standard_normal(count)).astype(np.float32)
    return recordings
