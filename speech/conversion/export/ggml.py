"""Whisper from CTranslate2's form to whisper.cpp's (ggml). Needs no PyTorch.

Both are published conversions of OpenAI's weights; this one serves where only CTranslate2's can be had. The
layouts are those of ctranslate2/specs/model_spec.py (version 6) and whisper.cpp/models/convert-pt-to-ggml.py.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

MAGIC = 0x67676D6C
FLOAT32, FLOAT16 = 0, 1
TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
TEXT_CONTEXT = 448

Tensor = NDArray[np.float32]


def export(original: Path, folder: Path) -> list[Path]:
    """Write ggml-model.bin into ``folder`` from a CTranslate2 folder in float16 or float32."""
    weights = read_ctranslate2(original / "model.bin")
    tokenizer = Tokenizer.from_file(str(original / "tokenizer.json"))
    target = folder / "ggml-model.bin"
    with target.open("wb") as file:
        state = weights["encoder/conv1/weight"].shape[0]
        mels = weights["encoder/conv1/weight"].shape[1]
        layers = [_layers(weights, side) for side in ("encoder", "decoder")]
        frames = weights["encoder/position_encodings/encodings"].shape[0]
        heads = state // 64
        vocabulary = weights["decoder/embeddings/weight"].shape[0]
        sizes = (vocabulary, frames, state, heads, layers[0], TEXT_CONTEXT, state, heads, layers[1], mels, FLOAT16)
        file.write(struct.pack("<12i", MAGIC, *sizes))
        filters = FeatureExtractor.get_mel_filters(16000, 400, n_mels=mels).astype(np.float32)
        file.write(struct.pack("<2i", *filters.shape) + filters.tobytes())
        pieces = _pieces(tokenizer)
        file.write(struct.pack("<i", len(pieces)))
        for piece in pieces:
            file.write(struct.pack("<i", len(piece)) + piece)
        for name, tensor in _renamed(weights, layers):
            _write(file, name, tensor)
    return [target]


def read_ctranslate2(path: Path) -> dict[str, Tensor]:
    """Every variable of a model.bin by its name, as float32; aliases included."""
    data = path.read_bytes()
    place = 0

    def take(form: str) -> tuple[int, ...]:
        nonlocal place
        values = struct.unpack_from("<" + form, data, place)
        place += struct.calcsize("<" + form)
        return values

    def text() -> str:
        nonlocal place
        (length,) = take("H")
        place += length
        return data[place - length : place - 1].decode()

    (version,) = take("I")
    if version < 5:
        raise ValueError(f"{path} has CTranslate2's format {version}; 5 or later is wanted")
    text(), take("I")
    found: dict[str, Tensor] = {}
    for _ in range(take("I")[0]):
        name = text()
        shape = take("I" * take("B")[0])
        kind, size = take("BI")
        values = np.frombuffer(data, TYPES[kind], size // np.dtype(TYPES[kind]).itemsize, place)
        place += size
        found[name] = values.reshape(shape).astype(np.float32)
    for _ in range(take("I")[0]):
        alias = text()
        found[alias] = found[text()]
    return found


def _layers(weights: dict[str, Tensor], side: str) -> int:
    names = (name.split("/") for name in weights)
    return len({parts[1] for parts in names if parts[0] == side and len(parts) > 3})


def _pieces(tokenizer: Tokenizer) -> list[bytes]:
    """The ordinary vocabulary as bytes; whisper.cpp makes the special tokens itself."""
    characters = _byte_of_character()
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    ordinary = json.loads(tokenizer.to_str())["model"]["vocab"]
    by_id = sorted(ordinary.items(), key=lambda item: int(item[1]))
    return [bytes(characters[c] for c in piece) for piece, _ in by_id if piece not in added]


def _byte_of_character() -> dict[str, int]:
    """GPT-2's table of printable characters for bytes: printable Latin-1 stands for itself, in order the rest."""
    alphabet = sorted(ByteLevel.alphabet())
    own = {c: ord(c) for c in alphabet if ord(c) < 256}
    rest = sorted(set(range(256)) - set(own.values()))
    return own | dict(zip((c for c in alphabet if ord(c) >= 256), rest, strict=True))


def _renamed(weights: dict[str, Tensor], layers: list[int]) -> Iterator[tuple[str, Tensor]]:
    """Tensors under OpenAI's names, fused projections taken apart."""
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
            theirs, ours = f"{side}.blocks.{layer}", f"{side}/layer_{layer}"
            yield from _attention(f"{theirs}.attn", f"{ours}/self_attention", weights)
            yield from _norm(f"{theirs}.attn_ln", f"{ours}/self_attention/layer_norm", weights)
            if side == "decoder":
                yield from _attention(f"{theirs}.cross_attn", f"{ours}/attention", weights)
                yield from _norm(f"{theirs}.cross_attn_ln", f"{ours}/attention/layer_norm", weights)
            yield from _norm(f"{theirs}.mlp_ln", f"{ours}/ffn/layer_norm", weights)
            yield from _linear(f"{theirs}.mlp.0", f"{ours}/ffn/linear_0", weights)
            yield from _linear(f"{theirs}.mlp.2", f"{ours}/ffn/linear_1", weights)


def _attention(theirs: str, ours: str, weights: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Query, key, value: one fused matrix in self-attention, the query and a fused pair in cross-attention."""
    fused = [f"{ours}/linear_{i}" for i in range(3) if f"{ours}/linear_{i}/weight" in weights]
    weight = np.concatenate([weights[f"{name}/weight"] for name in fused[:-1]])
    bias = np.concatenate([weights[f"{name}/bias"] for name in fused[:-1]])
    for part, rows, offset in zip(("query", "key", "value"), np.split(weight, 3), np.split(bias, 3), strict=True):
        yield f"{theirs}.{part}.weight", rows
        if part != "key":  # Whisper's keys have none
            yield f"{theirs}.{part}.bias", offset
    yield from _linear(f"{theirs}.out", fused[-1], weights)


def _linear(theirs: str, ours: str, weights: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    yield f"{theirs}.weight", weights[f"{ours}/weight"]
    yield f"{theirs}.bias", weights[f"{ours}/bias"]


def _norm(theirs: str, ours: str, weights: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    yield f"{theirs}.weight", weights[f"{ours}/gamma"]
    yield f"{theirs}.bias", weights[f"{ours}/beta"]


def _write(file: BinaryIO, name: str, tensor: Tensor) -> None:
    """Matrices in float16; biases, norms and positions in float32, as whisper.cpp expects them."""
    full = tensor.ndim == 1 or name.endswith((".positional_embedding", "conv1.bias", "conv2.bias"))
    encoded = name.encode()
    kind = FLOAT32 if full else FLOAT16
    file.write(struct.pack(f"<{3 + tensor.ndim}i", tensor.ndim, len(encoded), kind, *reversed(tensor.shape)))
    file.write(encoded)
    file.write(np.ascontiguousarray(tensor, np.float32 if full else np.float16).tobytes())
