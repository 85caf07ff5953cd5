"""CUDA devices that CTranslate2 can use."""

from __future__ import annotations

import ctranslate2


def count_cuda_devices() -> int:
    return int(ctranslate2.get_cuda_device_count())


def resolve(device: str, compute_type: str) -> tuple[str, str]:
    """Device and compute type, where either is ``auto``."""
    if device == "auto":
        device = "cuda" if count_cuda_devices() else "cpu"
    if compute_type == "auto":
        compute_type = "float16" if device == "cuda" else "int8"
    return device, compute_type
