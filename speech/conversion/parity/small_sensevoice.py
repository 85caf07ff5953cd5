"""A small SenseVoice of FunASR's own classes with seeded random weights, for where the real one is missing."""

from __future__ import annotations

import importlib
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
import yaml

from speech.audio.filterbank import fbank, stack_frames
from speech.engines import Samples

TAGS = [
    *("<|auto|>", "<|zh|>", "<|en|>", "<|yue|>", "<|ja|>", "<|ko|>", "<|nospeech|>"),
    *("<|NEUTRAL|>", "<|HAPPY|>", "<|SAD|>", "<|ANGRY|>", "<|EMO_UNKNOWN|>"),
    *("<|Speech|>", "<|BGM|>", "<|Laughter|>", "<|Applause|>", "<|withitn|>", "<|woitn|>"),
]
ENCODER_CONF = {
    "output_size": 64,
    "attention_heads": 2,
    "linear_units": 128,
    "num_blocks": 4,
    "tp_blocks": 1,
    "dropout_rate": 0.0,
    "attention_dropout_rate": 0.0,
    "input_layer": "pe",
    "pos_enc_class": "SinusoidalPositionEncoder",
    "normalize_before": True,
    "kernel_size": 11,
    "sanm_shfit": 0,
    "selfattention_layer_type": "sanm",
}
ASCII = string.ascii_letters + string.digits + string.punctuation


def build_small_sensevoice(
    folder: Path,
    texts: Sequence[str],
    recordings: Sequence[Samples],
    *,
    seed: int = 7,
    encoder: Mapping[str, Any] = ENCODER_CONF,
    trainable: bool = False,
) -> Path:
    """Write config.yaml, model.pt, am.mvn and a tokenizer, which ``AutoModel`` loads like any SenseVoice.

    A ``trainable`` one keeps its initial weights, knows all of ASCII, and encodes a tag as one token.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _train_tokenizer(folder, texts, trainable=trainable)
    _write_normalisation(folder / "am.mvn", recordings)
    config = {
        "model": "SenseVoiceSmall",
        "model_conf": {"length_normalized_loss": True, "sos": 1, "eos": 2, "ignore_id": -1},
        "encoder": "SenseVoiceEncoderSmall",
        "encoder_conf": dict(encoder),
        "frontend": "WavFrontend",
        "frontend_conf": {
            **{"fs": 16000, "window": "hamming", "n_mels": 80, "frame_length": 25, "frame_shift": 10},
            **{"lfr_m": 7, "lfr_n": 6, "dither": 0.0, "cmvn_file": str(folder / "am.mvn")},
        },
        "tokenizer": "SentencepiecesTokenizer",
        "tokenizer_conf": {"bpemodel": str(folder / "bpe.model"), "unk_symbol": "<unk>", "split_with_space": True},
        "input_size": 560,
        "vocab_size": vocabulary,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    torch.manual_seed(seed)
    classes: Any = importlib.import_module("funasr.register").tables.model_classes
    importlib.import_module("funasr.models.sense_voice.model")
    network = classes["SenseVoiceSmall"](
        encoder="SenseVoiceEncoderSmall",
        encoder_conf=dict(encoder),
        input_size=560,
        vocab_size=vocabulary,
        ctc_conf={},
        **config["model_conf"],  # type: ignore[arg-type]
    )
    if not trainable:
        with torch.no_grad():
            # sharper posteriors: greedy decoding then yields many different tokens with few near-ties
            network.ctc.ctc_lo.weight.mul_(8)
    torch.save(network.state_dict(), folder / "model.pt")
    return folder


def _train_tokenizer(folder: Path, texts: Sequence[str], *, trainable: bool) -> int:
    """Train a tokenizer of single characters and the tags. Returns the size of its vocabulary."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(folder / "bpe"),
        model_type="char",
        vocab_size=10_000 if trainable else 2000,
        hard_vocab_limit=False,
        character_coverage=1.0,
        user_defined_symbols=TAGS,
        minloglevel=2,
        # otherwise a space would be prepended to tags, too
        add_dummy_prefix=not trainable,
        required_chars=ASCII if trainable else "",
    )
    return int(sentencepiece.SentencePieceProcessor(model_file=str(folder / "bpe.model")).get_piece_size())


def _write_normalisation(path: Path, recordings: Sequence[Samples]) -> None:
    """Mean and deviation of the stacked features over the recordings, in Kaldi's text format."""
    rows = np.concatenate(
        [stack_frames(fbank(samples, window="hamming", scale=32768), width=7, step=6) for samples in recordings]
    )
    shift = " ".join(f"{value:.6f}" for value in -rows.mean(axis=0))
    scale = " ".join(f"{value:.6f}" for value in 1 / rows.std(axis=0))
    path.write_text(
        f"<Nnet>\n<Splice> 560 560\n[ 0 ]\n<AddShift> 560 560\n<LearnRateCoef> 0 [ {shift} ]\n"
        f"<Rescale> 560 560\n<LearnRateCoef> 0 [ {scale} ]\n</Nnet>\n"
    )
