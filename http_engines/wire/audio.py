"""Audio as servers take it."""

from __future__ import annotations

import base64
import io
import wave

import numpy as np

from speech.audio import flac
from speech.engines import SAMPLE_RATE, Samples

LEAST_SECONDS = 0.5
"""Less is padded with silence: Qwen3-ASR's own package does so."""

MEDIA_TYPES = {"flac": "audio/flac", "wav": "audio/wav"}


def encode(samples: Samples, format_: str) -> bytes:
    """A file in one of the MEDIA_TYPES, 16 kHz mono."""
    padded = np.pad(samples, (0, max(0, int(LEAST_SECONDS * SAMPLE_RATE) - len(samples))))
    return flac.encode(padded) if format_ == "flac" else _wav(padded)


def data_url(samples: Samples, format_: str) -> str:
    return f"data:{MEDIA_TYPES[format_]};base64,{base64.b64encode(encode(samples, format_)).decode()}"


def _wav(samples: Samples) -> bytes:
    output = io.BytesIO()
    with wave.open(output, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes())
    return output.getvalue()
