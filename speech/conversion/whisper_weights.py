"""Whisper's weights: CTranslate2's files as a PyTorch model, and a tuned model in CTranslate2's files again.

A tuned model has the shapes of its base, so that the base's file is written again with other values. Its float16
serves all compute types: CTranslate2 quantises while it loads.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from speech.models.ctranslate2_file import (
    WEIGHTS_FILE,
    WHISPER_HEAD_SIZE,
    Tensor,
    read_variables,
    replace_variables,
)


def load_model(folder: Path) -> WhisperForConditionalGeneration:
    """A CTranslate2 folder as a PyTorch model in float32. Raises OSError; ValueError where it is no Whisper."""
    variables = read_variables(folder / WEIGHTS_FILE)
    try:
        model = WhisperForConditionalGeneration(_config(variables))
        weights = {name: torch.from_numpy(tensor) for name, tensor in _torch_weights(variables)}
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{folder} is no Whisper: {error!r}") from error
    if unexpected or set(missing) - {"proj_out.weight"}:  # which is that of the tokens
        raise ValueError(f"{folder} is no Whisper that can be tuned: it lacks {', '.join(missing)}")
    model.tie_weights()
    return model


def save_model(model: WhisperForConditionalGeneration, base: Path, folder: Path) -> None:
    """Write a CTranslate2 folder with the model's weights and all else of its base."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in base.iterdir():
        if path.is_file() and path.name != WEIGHTS_FILE and not path.name.startswith("."):
            shutil.copyfile(path, folder / path.name)
    weights = {name: tensor.detach().float().cpu().numpy() for name, tensor in model.state_dict().items()}
    variables = {}
    for name, parts in _names(model.config.encoder_layers, model.config.decoder_layers):
        # CTranslate2 keeps zeros where Whisper's keys have no bias
        width = model.config.d_model
        tensors = [weights[part] if part in weights else np.zeros(width, np.float32) for part in parts]
        variables[name] = np.concatenate(tensors) if len(tensors) > 1 else tensors[0]
    replace_variables(base / WEIGHTS_FILE, folder / WEIGHTS_FILE, variables)


def _config(variables: Mapping[str, Tensor]) -> WhisperConfig:
    width, mels, _ = variables["encoder/conv1/weight"].shape
    layers = {
        side: len(
            {name.split("/")[1] for name in variables if name.startswith(f"{side}/layer_") and "/ffn/" in name}
        )
        for side in ("encoder", "decoder")
    }
    heads = max(width // WHISPER_HEAD_SIZE, 1)
    return WhisperConfig(
        vocab_size=variables["decoder/embeddings/weight"].shape[0],
        num_mel_bins=mels,
        d_model=width,
        encoder_layers=layers["encoder"],
        decoder_layers=layers["decoder"],
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=variables["encoder/layer_0/ffn/linear_0/weight"].shape[0],
        decoder_ffn_dim=variables["decoder/layer_0/ffn/linear_0/weight"].shape[0],
        max_source_positions=variables["encoder/position_encodings/encodings"].shape[0],
        max_target_positions=variables["decoder/position_encodings/encodings"].shape[0],
        use_cache=False,
        # SpecAugment: stretches of time, and bands of frequency
        apply_spec_augment=True,
        mask_time_prob=0.05,
        mask_time_length=20,
        mask_feature_prob=0.1,
        mask_feature_length=8,
        mask_feature_min_masks=1,
    )


def _torch_weights(variables: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    layers = _config(variables)
    for name, parts in _names(layers.encoder_layers, layers.decoder_layers):
        for part, tensor in zip(parts, np.split(variables[name], len(parts)), strict=True):
            if not part.endswith("k_proj.bias"):
                yield part, tensor


def _names(encoder_layers: int, decoder_layers: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """CTranslate2's name of each variable, and PyTorch's of what is joined in it."""
    for side in ("encoder", "decoder"):
        yield f"{side}/position_encodings/encodings", (f"model.{side}.embed_positions.weight",)
        yield from _norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
    yield "decoder/embeddings/weight", ("model.decoder.embed_tokens.weight",)
    for convolution in ("conv1", "conv2"):
        yield from _linear(f"encoder/{convolution}", f"model.encoder.{convolution}")
    for side, layers in (("encoder", encoder_layers), ("decoder", decoder_layers)):
        for layer in range(layers):
            ours, theirs = f"model.{side}.layers.{layer}", f"{side}/layer_{layer}"
            yield from _linear(
                f"{theirs}/self_attention/linear_0", *(f"{ours}.self_attn.{part}_proj" for part in "qkv")
            )
            yield from _linear(f"{theirs}/self_attention/linear_1", f"{ours}.self_attn.out_proj")
            yield from _norm(f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm")
            if side == "decoder":
                yield from _linear(f"{theirs}/attention/linear_0", f"{ours}.encoder_attn.q_proj")
                yield from _linear(
                    f"{theirs}/attention/linear_1", *(f"{ours}.encoder_attn.{part}_proj" for part in "kv")
                )
                yield from _linear(f"{theirs}/attention/linear_2", f"{ours}.encoder_attn.out_proj")
                yield from _norm(f"{theirs}/attention/layer_norm", f"{ours}.encoder_attn_layer_norm")
            yield from _norm(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
            yield from _linear(f"{theirs}/ffn/linear_0", f"{ours}.fc1")
            yield from _linear(f"{theirs}/ffn/linear_1", f"{ours}.fc2")


def _linear(theirs: str, *ours: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for part in ("weight", "bias"):
        yield f"{theirs}/{part}", tuple(f"{name}.{part}" for name in ours)


def _norm(theirs: str, ours: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield f"{theirs}/gamma", (f"{ours}.weight",)
    yield f"{theirs}/beta", (f"{ours}.bias",)
