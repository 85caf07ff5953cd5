"""How recordings are laid out for the segmentation network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from speech.engines.base import Samples
from speech.engines.segmentation import WINDOW_SAMPLES


def ten_seconds(samples: Samples) -> NDArray[np.float32]:
    """(windows, 160000), the last one padded with silence."""
    count = -(-len(samples) // WINDOW_SAMPLES)
    return np.pad(samples, (0, count * WINDOW_SAMPLES - len(samples))).reshape(count, WINDOW_SAMPLES)
