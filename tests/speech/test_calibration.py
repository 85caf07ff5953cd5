from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from speech.calibration import Calibration
from tests.conftest import MODELS
from tests.media import DATA
from tests.waiting import LIMIT_SECONDS


def test_the_threshold_lies_in_the_gap_or_above_most_strangers() -> None:
    separate = Calibration(np.array([0.8, 0.9]), np.array([0.1, 0.2, 0.4]), 1.0)
    assert separate.threshold == pytest.approx(0.6)
    assert (separate.false_accepts(0.6), separate.false_rejects(0.6)) == (0.0, 0.0)
    overlapping = Calibration(np.array([0.3, 0.9]), np.linspace(0, 0.5, 1000), 0.5)
    assert overlapping.false_accepts(overlapping.threshold) <= 0.01
    assert overlapping.false_rejects(overlapping.threshold) == 0.5


def calibrate(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "speech.calibration", str(folder), "--models", str(MODELS)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)


def test_real_voices(tmp_path: Path) -> None:
    for name in ("ocean_0001.flac", "ocean_0036.flac"):
        (tmp_path / name).symlink_to(DATA / name)
    process = calibrate(tmp_path)
    assert process.returncode == 0, process.stderr
    assert "nearest voice is the right one: 100.0%" in process.stdout
    assert 0.4 < float(process.stdout.rsplit("=", 1)[1]) < 0.8


def test_too_few_people(tmp_path: Path) -> None:
    (tmp_path / "one.flac").symlink_to(DATA / "ocean_0001.flac")
    process = calibrate(tmp_path)
    assert (process.returncode, process.stdout) == (1, "")
    assert "two people or more must say" in process.stderr
