"""Whisper from CTranslate2's format to whisper.cpp's (ggml). Needs no PyTorch.

Both are published conversions of OpenAI's weights; this one is for where only CTranslate2's is available. The
layout is that of whisper.cpp/models/convert-pt-to-ggml.py.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from speech.models.ctranslate2_file import Tensor, read_variables

MAGIC = 0x67676D6C
FLOAT32, FLOAT16 = 0, 1
TEXT_CONTEXT_TOKENS = 448


def export(original: Path, folder: Path) -> list[Path]:
    """Write ggml-model.bin into ``folder`` from a CTranslate2 folder in float16 or float32."""
    weights = read_variables(original / "model.bin")
    tokenizer = Tokenizer.from_file(str(original / "tokenizer.json"))
    target = folder / "ggml-model.bin"
    with target.open("wb") as file:
        state = weights["encoder/conv1/weight"].shape[0]
        mels = weights["encoder/conv1/weight"].shape[1]
        layers = [_count_layers(weights, side) for side in ("encoder", "decoder")]
        frames = weights["encoder/position_encodings/encodings"].shape[0]
        heads = state // 64
        vocabulary = weights["decoder/embeddings/weight"].shape[0]
        sizes = (
            vocabulary,
            frames,
            state,
            heads,
            layers[0],
            TEXT_CONTEXT_TOKENS,
            state,
            heads,
            layers[1],
            mels,
            FLOAT16,
        )
        file.write(struct.pack("<12i", MAGIC, *sizes))
        filters = FeatureExtractor.get_mel_filters(16000, 400, n_mels=mels).astype(np.float32)
        file.write(struct.pack("<2i", *filters.shape) + filters.tobytes())
        tokens = _vocabulary(tokenizer)
        file.write(struct.pack("<i", len(tokens)))
        for token in tokens:
            file.write(struct.pack("<i", len(token)) + token)
        for name, tensor in _openai_tensors(weights, layers):
            _write_tensor(file, name, tensor)
    return [target]


def _count_layers(weights: dict[str, Tensor], side: str) -> int:
    names = (name.split("/") for name in weights)
    return len({parts[1] for parts in names if parts[0] == side and len(parts) > 3})


def _vocabulary(tokenizer: Tokenizer) -> list[bytes]:
    """The ordinary tokens as bytes, by id; whisper.cpp adds the special tokens itself."""
    characters = _byte_of_character()
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    ordinary = json.loads(tokenizer.to_str())["model"]["vocab"]
    by_id = sorted(ordinary.items(), key=lambda item: int(item[1]))
    return [bytes(characters[c] for c in token) for token, _ in by_id if token not in added]


def _byte_of_character() -> dict[str, int]:
    """GPT-2's table of characters for bytes: printable Latin-1 is itself, the other bytes follow in order."""
    alphabet = sorted(ByteLevel.alphabet())
    latin = {c: ord(c) for c in alphabet if ord(c) < 256}
    rest = sorted(set(range(256)) - set(latin.values()))
    return latin | dict(zip((c for c in alphabet if ord(c) >= 256), rest, strict=True))


def _openai_tensors(weights: dict[str, Tensor], layers: list[int]) -> Iterator[tuple[str, Tensor]]:
    """Tensors under OpenAI's names, with fused projections split."""
    yield "encoder.positional_embedding", weights["encoder/position_encodings/encodings"]
    yield "decoder.positional_embedding", weights["decoder/position_encodings/encodings"]
    yield "decoder.token_embedding.weight", weights["decoder/embeddings/weight"]
    for conv in ("conv1", "conv2"):
        yield f"encoder.{conv}.weight", weights[f"encoder/{conv}/weight"]
        yield f"encoder.{conv}.bias", weights[f"encoder/{conv}/bias"][:, None]
    yield from _norm("encoder.ln_post", "encoder/layer_norm", weights)
    yield from _norm("decoder.ln", "decoder/layer_norm", weights)
    for side, count in zip(("encoder", "decoder"), layers, strict=True):
        for layer in range(count):
            openai, ct2 = f"{side}.blocks.{layer}", f"{side}/layer_{layer}"
            yield from _attention(f"{openai}.attn", f"{ct2}/self_attention", weights)
            yield from _norm(f"{openai}.attn_ln", f"{ct2}/self_attention/layer_norm", weights)
            if side == "decoder":
                yield from _attention(f"{openai}.cross_attn", f"{ct2}/attention", weights)
                yield from _norm(f"{openai}.cross_attn_ln", f"{ct2}/attention/layer_norm", weights)
            yield from _norm(f"{openai}.mlp_ln", f"{ct2}/ffn/layer_norm", weights)
            yield from _linear(f"{openai}.mlp.0", f"{ct2}/ffn/linear_0", weights)
            yield from _linear(f"{openai}.mlp.2", f"{ct2}/ffn/linear_1", weights)


def _attention(openai: str, ct2: str, weights: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Query, key, value: one fused matrix in self-attention, the query and a fused pair in cross-attention."""
    fused = [f"{ct2}/linear_{i}" for i in range(3) if f"{ct2}/linear_{i}/weight" in weights]
    weight = np.concatenate([weights[f"{name}/weight"] for name in fused[:-1]])
    bias = np.concatenate([weights[f"{name}/bias"] for name in fused[:-1]])
    for part, rows, offsets in zip(("query", "key", "value"), np.split(weight, 3), np.split(bias, 3), strict=True):
        yield f"{openai}.{part}.weight", rows
        if part != "key":  # Whisper's keys have no bias
            yield f"{openai}.{part}.bias", offsets
    yield from _linear(f"{openai}.out", fused[-1], weights)


def _linear(openai: str, ct2: str, weights: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    yield f"{openai}.weight", weights[f"{ct2}/weight"]
    yield f"{openai}.bias", weights[f"{ct2}/bias"]


def _norm(openai: str, ct2: str, weights: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    yield f"{openai}.weight", weights[f"{ct2}/gamma"]
    yield f"{openai}.bias", weights[f"{ct2}/beta"]


def _write_tensor(file: BinaryIO, name: str, tensor: Tensor) -> None:
    """Matrices in float16; biases, norms and positions in float32, as whisper.cpp expects them."""
    as_float32 = tensor.ndim == 1 or name.endswith((".positional_embedding", "conv1.bias", "conv2.bias"))
    encoded = name.encode()
    kind = FLOAT32 if as_float32 else FLOAT16
    file.write(struct.pack(f"<{3 + tensor.ndim}i", tensor.ndim, len(encoded), kind, *reversed(tensor.shape)))
    file.write(encoded)
    file.write(np.ascontiguousarray(tensor, np.float32 if as_float32 else np.float16).tobytes())
