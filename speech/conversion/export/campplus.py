"""CAM++ from its PyTorch weights to ONNX, with the metadata that sherpa-onnx also reads."""

from __future__ import annotations

from pathlib import Path

import torch

from speech.conversion.export.onnx_files import export_onnx
from speech.speakers.voiceprint_torch import DIMENSIONS, load_network


def export(original: Path, folder: Path) -> list[Path]:
    """Write campplus.onnx into ``folder``: features (batch, frames, 80) to embedding (batch, 192)."""
    return [
        export_onnx(
            load_network(original),
            (torch.randn(2, 150, 80),),
            folder / "campplus.onnx",
            inputs=["features"],
            outputs=["embedding"],
            dynamic={"features": {0: "batch", 1: "frames"}, "embedding": {0: "batch"}},
            metadata={
                "framework": "3d-speaker",
                "language": "Chinese-English",
                "output_dim": DIMENSIONS,
                "sample_rate": 16000,
                "normalize_samples": 0,
                "feature_normalize_type": "global-mean",
            },
        )
    ]
