"""Converting models in an interpreter with PyTorch, in a temporary environment if there is none."""

from __future__ import annotations

import atexit
import importlib.util
import os
import subprocess
import sys
import tempfile
import venv
from functools import cache
from pathlib import Path

from rich.console import Console

from db.settings import get_settings

console = Console()

TORCH = "torch==2.13.0"
PACKAGES = Path(__file__).parents[2]
"""Where our packages lie, for an interpreter in which they are not installed."""
LOCK = PACKAGES / "speech" / "conversion" / "export" / "requirements.lock"


class SourceFailed(Exception):
    """A source lacks the model, or its files are damaged. The message says why."""


def failure_reason(done: subprocess.CompletedProcess[str]) -> str:
    """The last line that a failed command printed."""
    return (done.stderr.strip().splitlines() or ["no reason given"])[-1]


def export(exporter: str, original: Path, target: Path) -> None:
    """Run one of ``speech.conversion.export`` in an interpreter that has what it needs. Raises SourceFailed."""
    python = sys.executable if exporter == "ggml" else _with_torch()
    with console.status(f"exporting {original.name}"):
        done = run_module(python, "speech.conversion.export", exporter, str(original), str(target))
    if done.returncode:
        raise SourceFailed(f"the export of {original.name} failed: {failure_reason(done)}")
    console.print(done.stdout.strip().splitlines()[-1], highlight=False)


def run_module(python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m`` on one of our modules, in an environment where they may not be installed."""
    return subprocess.run(  # noqa: S603  (our own command line)
        [python, "-m", *arguments],
        env=os.environ | {"PYTHONPATH": str(PACKAGES)},
        capture_output=True,
        text=True,
        check=False,
    )


@cache
def _with_torch() -> str:
    """A Python with PyTorch: the configured one, this one, or a temporary one. Raises SourceFailed."""
    configured = get_settings().torch_python
    if configured is not None and configured.is_file():
        return str(configured)
    if importlib.util.find_spec("torch"):
        return sys.executable
    # for all exports of this process; deleted when it ends
    folder = tempfile.TemporaryDirectory(prefix="longhand-torch-")
    atexit.register(folder.cleanup)
    return _temporary_torch(Path(folder.name))


def _temporary_torch(folder: Path) -> str:
    """A virtual environment with PyTorch and what the exports want; deleted once they are made."""
    with console.status(f"setting up {TORCH} for the export, for this once"):
        venv.create(folder, with_pip=True)
        python = str(folder / "bin" / "python")
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
        # its build for this machine cannot be pinned by hash: each index has its own
        for wanted in ([TORCH], ["--require-hashes", "-r", str(LOCK)]):
            done = subprocess.run([*pip, *wanted], capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode:
                raise SourceFailed(f"PyTorch for the export cannot be installed: {failure_reason(done)}")
    return python
