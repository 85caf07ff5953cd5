"""The trainer's process: its interpreter, its request, its progress and its report."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from db.models import EventType, FineTune, Json, Role
from db.queue.claims import Claim
from db.settings import Settings
from tasks.errors import INFRASTRUCTURE, Broken, Transient
from tasks.handler import Work
from tasks.training.finetune.base_model import BaseModel

logger = logging.getLogger(__name__)

REPOSITORY = Path(__file__).parents[3]
"""The folder of our packages, for an interpreter in which they are not installed."""

NICENESS = 10
"""Transcription has priority over training."""

POLL_SECONDS = 2.0

MAX_ERROR_CHARACTERS = 2000
"""Kept of a crashed trainer's output."""


def torch_python(settings: Settings) -> Path:
    """The interpreter that trains. Raises Broken."""
    python = settings.torch_python
    if python is None or not python.is_file():
        raise Broken(
            "no_torch",
            "Fine-tuning needs an interpreter with PyTorch and FunASR on the gpu worker's machine: "
            "set LONGHAND_TORCH_PYTHON.",
        )
    # not resolved: the link inside a virtual environment determines its packages
    return python.absolute()


def checkpoint_folder(settings: Settings, finetune_id: uuid.UUID) -> Path:
    """Where a fine-tuning that this machine is broken off in is gone on with on this machine."""
    return settings.data_dir.absolute() / "checkpoints" / str(finetune_id)


def write_request(settings: Settings, finetune: FineTune, folder: Path, base: BaseModel) -> Path:
    """Write the JSON that ``speech.training.tuning`` takes; the fine-tuning's options override the settings."""
    request = {
        "train": str(folder / "train.jsonl"),
        "val": str(folder / "val.jsonl"),
        "base": str(base.folder),
        "out": str(folder / "out"),
        "epochs": settings.finetune_epochs,
        "learning_rate": settings.finetune_learning_rate,
        "batch_seconds": settings.finetune_batch_seconds,
        "frozen": settings.finetune_frozen,
        "drafts": finetune.role == Role.DRAFT,
        "origin": str(base.origin),
        "general": settings.finetune_general and str(settings.finetune_general.absolute()),
        "checkpoints": str(checkpoint_folder(settings, finetune.job_id)),
        "threads": settings.refine_thread_count,
        "device": "cuda" if settings.device == "cuda" else "cpu",
        **finetune.options,
    }
    path = folder / "request.json"
    path.write_text(json.dumps(request))
    return path


def run_trainer(work: Work, claim: Claim, python: Path, request: Path) -> Json:
    """Run the trainer to its end and emit its progress. Returns its report; raises Transient where it crashed."""
    log = request.with_name("log")
    with _process(python, request, log) as process:
        emitted = 0
        while process.poll() is None:
            work.lease.check(claim)
            emitted = _emit_epochs(work, claim, log, emitted)
            time.sleep(POLL_SECONDS)
    report = request.parent / "out" / "report.json"
    if process.returncode or not report.is_file():
        tail = log.read_text(errors="replace")[-MAX_ERROR_CHARACTERS:]
        raise Transient(f"the trainer ended with status {process.returncode}: {tail}")
    return dict(json.loads(report.read_text()))


@contextmanager
def _process(python: Path, request: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  (our own command line)
            ["nice", f"-n{NICENESS}", str(python), "-m", "speech.training.tuning", str(request), "--bound"],  # noqa: S607
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            # the trainer ends when this pipe closes, even if the worker is killed
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _emit_epochs(work: Work, claim: Claim, log: Path, emitted: int) -> int:
    """Emit an event for each epoch that has ended since. Returns how many were emitted so far."""
    epochs = [line for line in log.read_text(errors="replace").splitlines() if line.startswith('{"epoch"')]
    try:
        for line in epochs[emitted:]:
            with work.transaction(claim) as tx:
                tx.emit(EventType.JOB_PROGRESS, {"training": json.loads(line)})
            emitted += 1
    except INFRASTRUCTURE as error:
        logger.warning("could not emit an epoch's progress yet: %s", error)
    return emitted
