"""SenseVoice from FunASR's PyTorch folder to ONNX, in the format of sherpa-onnx and our engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from speech.asr.sensevoice.base import ITN_IDS, LANGUAGE_IDS
from speech.asr.sensevoice.torch_engine import SenseVoiceTorch
from speech.conversion.export.onnx_files import export_onnx, quantise


class _Network(torch.nn.Module):
    """From features and queries to logits: the original's inference without its front end and decoder."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.embed, self.encoder, self.classify = model.embed, model.encoder, model.ctc.ctc_lo

    def forward(
        self, x: torch.Tensor, x_length: torch.Tensor, language: torch.Tensor, text_norm: torch.Tensor
    ) -> torch.Tensor:
        emotion_and_event = torch.ones_like(language)[:, None] * torch.tensor([[1, 2]], dtype=torch.int32)
        queries = torch.cat([language[:, None], emotion_and_event, text_norm[:, None]], dim=1)
        speech = torch.cat([self.embed(queries), x], dim=1)
        encoded, _ = self.encoder(speech, x_length + queries.shape[1])
        logits: torch.Tensor = self.classify(encoded)
        return logits


def export(original: Path, folder: Path) -> list[Path]:
    """Write model.onnx, model.int8.onnx and tokens.txt into ``folder``."""
    loaded = SenseVoiceTorch(original)
    model, frontend = loaded.auto.model, loaded.auto.kwargs["frontend"]
    pieces = loaded.pieces
    metadata = {
        "model_type": "sense_voice_ctc",
        "vocab_size": len(pieces),
        "blank_id": model.blank_id,
        "lfr_window_size": frontend.lfr_m,
        "lfr_window_shift": frontend.lfr_n,
        "normalize_samples": 0,
        "neg_mean": ",".join(map(str, frontend.cmvn[0].tolist())),
        "inv_stddev": ",".join(map(str, frontend.cmvn[1].tolist())),
        "with_itn": ITN_IDS[True],
        "without_itn": ITN_IDS[False],
        **{f"lang_{name}": i for name, i in LANGUAGE_IDS.items()},
    }
    width = len(frontend.cmvn[0])
    example = (
        torch.randn(2, 40, width),
        torch.tensor([40, 30], dtype=torch.int32),
        torch.tensor([0, 4], dtype=torch.int32),
        torch.tensor([15, 14], dtype=torch.int32),
    )
    full = export_onnx(
        _Network(model),
        example,
        folder / "model.onnx",
        inputs=["x", "x_length", "language", "text_norm"],
        outputs=["logits"],
        dynamic={
            "x": {0: "batch", 1: "frames"},
            "x_length": {0: "batch"},
            "language": {0: "batch"},
            "text_norm": {0: "batch"},
            "logits": {0: "batch", 1: "outputs"},
        },
        metadata=metadata,
    )
    small = quantise(full, folder / "model.int8.onnx", metadata)
    tokens = folder / "tokens.txt"
    tokens.write_text("".join(f"{piece} {i}\n" for i, piece in enumerate(pieces)), encoding="utf-8")
    return [full, small, tokens]
