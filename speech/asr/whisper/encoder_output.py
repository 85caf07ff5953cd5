"""Batches of encoder output: selecting members, and moving arrays between NumPy and the model's device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ctranslate2
import numpy as np
from numpy.typing import NDArray


def select_members(encoded: Any, positions: Sequence[int], count: int) -> Any:
    """The members at ``positions`` of an encoded batch of ``count``; the batch itself when all are selected."""
    if len(positions) == count:
        return encoded
    return from_numpy(to_numpy(encoded)[list(positions)], like=encoded)


def join(batches: Sequence[Any]) -> Any:
    """One batch of the members of several, whose windows are equally long."""
    if len(batches) == 1:
        return batches[0]
    return from_numpy(np.concatenate([*map(to_numpy, batches)]), like=batches[0])


def to_numpy(encoded: Any) -> NDArray[Any]:
    on_cpu = encoded.to_device(ctranslate2.Device.cpu)
    if on_cpu.dtype == ctranslate2.DataType.bfloat16:  # NumPy has no such type
        on_cpu = on_cpu.to(ctranslate2.DataType.float32)
    return np.asarray(on_cpu)


def from_numpy(array: NDArray[Any], *, like: Any) -> Any:
    """The array on the device of the encoded batch ``like``, in its data type."""
    view = ctranslate2.StorageView.from_array(np.ascontiguousarray(array))
    if view.dtype != like.dtype:
        view = view.to(like.dtype)
    return view if like.device == "cpu" else view.to_device(ctranslate2.Device.cuda)
