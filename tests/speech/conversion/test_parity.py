"""The parity gates, in the environment that has PyTorch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from speech.conversion.parity.without_torch import BLOCKED_PACKAGES, ImportBlocker
from tests.conftest import MODELS
from tests.media import DATA

ROOT = DATA.parent.parent
PYTHON = Path(os.environ.get("LONGHAND_TORCH_PYTHON", ROOT / ".venv-torch" / "bin" / "python"))


def test_every_gate_passes(tmp_path: Path) -> None:
    if not PYTHON.is_file():
        pytest.skip("no environment with PyTorch here: `make parity` sets one up")
    report = tmp_path / "parity.json"
    folders = ("--models", str(MODELS), "--recordings", str(DATA), "--report", str(report))
    done = subprocess.run(
        [PYTHON, "-m", "speech.conversion.parity", "--no-speed", *folders],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.is_file(), done.stderr[-2000:]
    findings = {(finding["gate"], finding["model"]): finding for finding in json.loads(report.read_text())}
    assert {gate for gate, _ in findings} == {"G1", "G2", "G4", "G5", "G6"}
    assert [finding for finding in findings.values() if not finding["passed"]] == []
    assert findings["G1", "a small SenseVoice"]["figures"]["texts"] >= 60
    assert findings["G2", "campplus"]["figures"]["recordings"] >= 10
    # what is tuned is what serves
    assert findings["G6", "whisper-tiny.en"]["figures"]["texts"] == 6
    assert done.returncode == 0


@pytest.mark.parametrize("name", [*BLOCKED_PACKAGES, "torch.nn"])
def test_blocked_imports_fail(name: str) -> None:
    with pytest.raises(ImportError, match="blocked"):
        ImportBlocker().find_spec(name, None)
    assert ImportBlocker().find_spec("numpy", None) is None
    assert name.partition(".")[0] not in sys.modules
