"""The distribution's Chromium, with a microphone into which a recording is spoken again and again."""

from __future__ import annotations

import shutil
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, sync_playwright

from speech.engines import SAMPLE_RATE
from tests.media import load

NAMES = ("chromium", "chromium-browser", "google-chrome")
WAIT_MS = 60_000
"""Long enough for a busy machine."""


@contextmanager
def chromium(folder: Path, spoken: str = "jfk.flac") -> Iterator[Browser]:
    """``spoken`` is a file of tests/data. Skips where there is no Chromium."""
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    file = folder / "spoken.wav"
    with wave.open(str(file), "wb") as target:
        target.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        target.writeframes((load(spoken) * 32767).astype(np.int16).tobytes())
    options = [
        # containers have no user namespaces, and little shared memory
        *("--no-sandbox", "--disable-dev-shm-usage"),
        "--autoplay-policy=no-user-gesture-required",
        *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
        f"--use-file-for-fake-audio-capture={file}",
    ]
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=executable, args=options)
        yield started
        started.close()
