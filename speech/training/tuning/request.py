"""What is asked of a tuning, and the ways in which one ends without a model."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class Code(StrEnum):
    """Why there is no tuned model; stable, for the caller to act on."""

    INVALID_REQUEST = "invalid_request"
    DEVICE_UNAVAILABLE = "device_unavailable"
    BASE_UNUSABLE = "base_unusable"
    NO_TRAINING_DATA = "no_training_data"
    NO_HELD_OUT_DATA = "no_held_out_data"
    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"
    PARITY_FAILED = "parity_failed"


class TuningError(Exception):
    """A tuning that cannot go on. The message says what is wrong and what to do."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """One tuning. ``batch_seconds`` of audio make one step; of the encoder, ``frozen`` front blocks stay."""

    train: Path
    val: Path
    base: Path
    out: Path
    epochs: int = 3
    learning_rate: float = 2e-5
    batch_seconds: float = 60
    frozen: int = 0
    device: str = "cpu"
    threads: int = 2
    seed: int = 7

    @property
    def work(self) -> Path:
        """What is needed while the tuning runs, and goes when it ends."""
        return self.out / "work"

    @property
    def export(self) -> Path:
        return self.out / "export"

    @property
    def original(self) -> Path:
        """The tuned model as FunASR has it: a later tuning's base."""
        return self.out / "original"

    @property
    def report(self) -> Path:
        return self.out / "report.json"

    @classmethod
    def load(cls, path: Path) -> Request:
        """Relative paths are resolved against the request's own folder. Raises OSError, ValueError, TypeError."""
        said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        folders = {name: path.parent.absolute() / said.pop(name) for name in ("train", "val", "base", "out")}
        return cls(**folders, **said)

    def check(self) -> None:
        """Raises TuningError."""
        numbers = (self.learning_rate, self.batch_seconds)
        if self.epochs < 1 or self.threads < 1 or self.frozen < 0 or not all(0 < n < math.inf for n in numbers):
            raise TuningError(Code.INVALID_REQUEST, "Every number of a request is positive (frozen may be 0).")
        if self.device != "cpu" and not self.device.startswith("cuda"):
            raise TuningError(Code.INVALID_REQUEST, f"There is no device {self.device}: it is cpu or cuda.")
        for path in (self.train, self.val, self.base / "model.pt", self.base / "config.yaml"):
            if not path.is_file():
                raise TuningError(Code.INVALID_REQUEST, f"{path} is not there.")
        for given in (self.train, self.val, self.base):
            # these folders are emptied first: what a tuning starts from must not lie in them
            if any(given.resolve().is_relative_to(made.resolve()) for made in self._made()):
                raise TuningError(Code.INVALID_REQUEST, f"{given} lies where the results go; choose another out.")

    def _made(self) -> tuple[Path, Path, Path]:
        return self.work, self.export, self.original
