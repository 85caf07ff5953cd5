"""Watches the losses of a training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from speech.training.tuning.request import TuningError, TuningErrorCode

ProgressCallback = Callable[[dict[str, Any]], None]

MAX_LOSS_RATIO = 2.0
"""A loss of this many times that of guessing all tokens with equal probability: the training has diverged."""
PROGRESS_SECONDS = 10.0
"""Between two progress reports within an epoch."""


@dataclass(slots=True)
class LossMonitor:
    """Records the losses of an epoch, reports progress, and stops a training that diverges."""

    report_progress: ProgressCallback
    epoch: int = 0
    steps: int = 0
    losses: list[float] = field(default_factory=list)
    guess_ratios: list[float] = field(default_factory=list)
    """Losses over that of guessing all classes with equal probability."""
    reported_at: float = 0.0

    def start_epoch(self, epoch: int, steps: int) -> None:
        self.epoch, self.steps, self.losses, self.guess_ratios = epoch, steps, [], []
        self.reported_at = time.monotonic()

    def add(self, loss: float, guess: float) -> None:
        """The loss of a step, and that of a guess. Raises TuningError for a loss that is not finite."""
        if not math.isfinite(loss):
            raise divergence(f"in epoch {self.epoch} the loss is no number")
        self.losses.append(loss)
        self.guess_ratios.append(loss / guess)
        if self.steps and time.monotonic() - self.reported_at > PROGRESS_SECONDS:
            self.reported_at = time.monotonic()
            self.report_progress(
                {"epoch": self.epoch, "step": len(self.losses), "steps": self.steps, "loss": self.mean()}
            )

    def mean(self) -> float:
        return sum(self.losses) / len(self.losses)

    def finish_epoch(self) -> float:
        """The epoch's mean loss. Raises TuningError where it is above ``MAX_LOSS_RATIO``."""
        if sum(self.guess_ratios) > MAX_LOSS_RATIO * len(self.guess_ratios):
            raise divergence(f"in epoch {self.epoch} the loss is {self.mean():.3g}, worse than guessing")
        return self.mean()


def divergence(finding: str) -> TuningError:
    return TuningError(TuningErrorCode.DIVERGED, f"The training diverged: {finding}. Try a lower learning_rate.")
