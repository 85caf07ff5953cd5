"""Where CTranslate2 can run."""

from __future__ import annotations

import ctranslate2


def count_cuda_devices() -> int:
    return int(ctranslate2.get_cuda_device_count())
