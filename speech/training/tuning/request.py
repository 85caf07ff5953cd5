"""The request of a tuning, and the errors with which one ends."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class TuningErrorCode(StrEnum):
    """Stable codes for the caller to act on."""

    INVALID_REQUEST = "invalid_request"
    DEVICE_UNAVAILABLE = "device_unavailable"
    BASE_UNUSABLE = "base_unusable"
    NO_TRAINING_DATA = "no_training_data"
    NO_HELD_OUT_DATA = "no_held_out_data"
    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"
    PARITY_FAILED = "parity_failed"


class TuningError(Exception):
    """The message says what is wrong and what to do."""

    def __init__(self, code: TuningErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """``batch_seconds`` of audio make one step; the encoder's first ``frozen`` blocks are not tuned.

    The base is a SenseVoice in FunASR's form, or a Whisper in CTranslate2's.
    """

    train: Path
    val: Path
    base: Path
    out: Path
    epochs: int = 3
    learning_rate: float | None = None
    """None for the one that the network was tried with."""
    batch_seconds: float = 60
    frozen: int = 0
    device: str = "cpu"
    threads: int = 2
    seed: int = 7
    drafts: bool = True
    """Whether it is measured as draft models decode, or as refine models do."""
    origin: Path | None = None
    """The model that was never tuned; the base if unset. General speech may lose nothing against it."""
    general: Path | None = None
    """A manifest.jsonl of general speech: ``path``, ``text``, ``language`` and ``duration`` in each line."""
    checkpoints: Path | None = None
    """Where a training that was broken off is gone on with; its caller deletes it."""

    @property
    def is_whisper(self) -> bool:
        return (self.base / "model.bin").is_file()

    @property
    def checkpoint_folder(self) -> Path:
        return self.checkpoints or self.work_folder

    @property
    def work_folder(self) -> Path:
        """Temporary files; deleted when the tuning ends."""
        return self.out / "work"

    @property
    def export_folder(self) -> Path:
        return self.out / "export"

    @property
    def untuned(self) -> Path:
        """The model that was never tuned."""
        return self.origin or self.base

    @property
    def original_folder(self) -> Path:
        """The tuned model in FunASR's form: the base of a later tuning. A Whisper's export is its own base."""
        return self.out / "original"

    @property
    def report_path(self) -> Path:
        return self.out / "report.json"

    @classmethod
    def load(cls, path: Path) -> Request:
        """Relative paths are resolved against the request's own folder. Raises OSError, ValueError, TypeError."""
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        folders = {
            name: path.parent.absolute() / values.pop(name)
            for name in ("train", "val", "base", "out", "origin", "general", "checkpoints")
            if values.get(name) is not None
        }
        return cls(**folders, **values)

    def check(self) -> None:
        """Raises TuningError."""
        numbers = (1.0 if self.learning_rate is None else self.learning_rate, self.batch_seconds)
        if self.epochs < 1 or self.threads < 1 or self.frozen < 0 or not all(0 < n < math.inf for n in numbers):
            raise TuningError(
                TuningErrorCode.INVALID_REQUEST, "Every number of a request is positive (frozen may be 0)."
            )
        if self.device != "cpu" and not self.device.startswith("cuda"):
            raise TuningError(
                TuningErrorCode.INVALID_REQUEST, f"There is no device {self.device}: it is cpu or cuda."
            )
        weights = ("model.bin", "tokenizer.json") if self.is_whisper else ("model.pt", "config.yaml")
        for path in (self.train, self.val, *(self.base / name for name in weights)):
            if not path.is_file():
                raise TuningError(TuningErrorCode.INVALID_REQUEST, f"{path} is not there.")
        for path in (self.train, self.val, self.base):
            # the output folders are emptied first: they must not contain the inputs
            if any(path.resolve().is_relative_to(folder.resolve()) for folder in self._output_folders()):
                raise TuningError(
                    TuningErrorCode.INVALID_REQUEST, f"{path} lies where the results go; choose another out."
                )

    def _output_folders(self) -> tuple[Path, Path, Path]:
        return self.work_folder, self.export_folder, self.original_folder
