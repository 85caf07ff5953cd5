"""What a tuning came to, for whoever asked."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from speech.models.catalogue import sha256
from speech.training.tuning.evaluate import Score

COUNTED = ("train", "val", "unreadable", "unfit")


@dataclass(slots=True)
class Report:
    """``status`` is ``done`` or ``failed``; what a failed tuning did not come to is empty or None."""

    status: str = "failed"
    error: dict[str, str] | None = None
    losses: list[float] = field(default_factory=list)
    """Mean training loss of each epoch."""
    cer: dict[str, float | None] = field(default_factory=dict)
    """By model: ``base``, ``tuned``, and ``export``, which is what serves."""
    wer: dict[str, float | None] | None = None
    clips: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    """Unfit is a text that the vocabulary cannot write, or not in its clip's time: it is not trained on."""
    seconds: float = 0.0
    parity: dict[str, Any] | None = None
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of the export: name to ``sha256`` and ``bytes``."""
    original: str | None = None
    """The folder with the tuned model in FunASR's form."""

    def add(self, model: str, score: Score) -> None:
        self.cer[model] = score.cer
        if score.wer is not None:
            self.wer = (self.wer or {}) | {model: score.wer}

    def add_files(self, folder: Path) -> None:
        self.files = {
            path.name: {"sha256": sha256(path), "bytes": path.stat().st_size} for path in sorted(folder.iterdir())
        }

    def write(self, path: Path) -> None:
        """The whole report or none."""
        partial = path.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as output:
            json.dump(asdict(self), output, indent=1, allow_nan=False)
            output.flush()
            os.fsync(output.fileno())
        partial.replace(path)
