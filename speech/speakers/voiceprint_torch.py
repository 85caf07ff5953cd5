"""CAM++ in PyTorch (the ``torch`` extra): FunASR's class with the published weights."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech.engines import EngineInfo, EngineUnavailable
from speech.models.streams import Streams
from speech.speakers.voiceprint import VoiceprintModel

WEIGHTS = "campplus_cn_en_common.pt"
DIMENSIONS = 192


def load_network(folder: Path) -> Any:
    """The original network in evaluation mode, (batch, frames, 80) to (batch, 192). Raises EngineUnavailable."""
    try:
        torch = importlib.import_module("torch")
        funasr = importlib.import_module("funasr.models.campplus.model")
    except (ImportError, OSError) as error:
        raise EngineUnavailable(
            f"The engine campplus needs PyTorch and FunASR (pip install 'longhand[torch]'): {error}."
        ) from error
    network = funasr.CAMPPlus(feat_dim=80, embedding_size=DIMENSIONS, memory_efficient=False)
    try:
        network.load_state_dict(torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError) as error:
        raise EngineUnavailable(f"CAM++ cannot load from {folder}: {error}") from error
    return network.eval()


class VoiceprintTorch(VoiceprintModel):
    """The original network."""

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        """Raises EngineUnavailable."""
        super().__init__("povey", Streams(1))  # PyTorch's threads are the process's own
        self._network = load_network(folder)
        self._torch = importlib.import_module("torch")
        self._torch.set_num_threads(threads)
        self.info = EngineInfo("campplus", folder.name, "cpu", "float32")
        self.dimensions = DIMENSIONS

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._torch.inference_mode():
            return np.asarray(self._network(self._torch.from_numpy(batch)), np.float32)
