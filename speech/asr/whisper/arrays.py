"""Moving CTranslate2's arrays between devices, and selecting members of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ctranslate2
import numpy as np
from numpy.typing import NDArray


def select(encoded: Any, positions: Sequence[int], count: int) -> Any:
    """Some members of an encoded batch of so many; the batch itself when all are wanted."""
    if len(positions) == count:
        return encoded
    return to_device_of(encoded, on_cpu(encoded)[list(positions)])


def on_cpu(encoded: Any) -> NDArray[Any]:
    there = encoded.to_device(ctranslate2.Device.cpu)
    if there.dtype == ctranslate2.DataType.bfloat16:  # which NumPy does not know
        there = there.to(ctranslate2.DataType.float32)
    return np.asarray(there)


def to_device_of(encoded: Any, array: NDArray[Any]) -> Any:
    """The array where the encoded batch is, on the CPU or the GPU, and in its type."""
    view = ctranslate2.StorageView.from_array(np.ascontiguousarray(array))
    if view.dtype != encoded.dtype:
        view = view.to(encoded.dtype)
    return view if encoded.device == "cpu" else view.to_device(ctranslate2.Device.cuda)
