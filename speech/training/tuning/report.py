"""The report of a tuning."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from speech.models.catalogue import sha256
from speech.training.tuning.evaluate import Score

CLIP_COUNTS = ("train", "val", "unreadable", "unfit")


@dataclass(slots=True)
class Report:
    """``status`` is ``done`` or ``failed``; what a failed tuning did not reach is empty or None."""

    status: str = "failed"
    engine: str = ""
    error: dict[str, str] | None = None
    losses: list[float] = field(default_factory=list)
    """Mean training loss of each epoch."""
    cer: dict[str, float | None] = field(default_factory=dict)
    """By model: ``base``, ``untuned`` where that is another, ``tuned``, and ``export``, which serves."""
    wer: dict[str, float | None] | None = None
    clips: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CLIP_COUNTS, 0))
    """``unfit`` clips are not trained on: their text cannot be written in their time, or by this vocabulary."""
    seconds: float = 0.0
    gate: dict[str, Any] = field(default_factory=dict)
    """What a release is decided by: the ``chance`` that the held-out clips show no gain over the untuned model,
    the share of their words that is ``doubted`` (of Whisper), error rates on ``general`` speech where there
    is some."""
    learnt: list[str] = field(default_factory=list)
    """Keys of held-out clips that the export writes right, and the base did not."""
    parity: dict[str, Any] | None = None
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """``sha256`` and ``bytes`` of the export's files by name."""
    original: str | None = None
    """The folder with the tuned model in the form that is tuned, where that is another than the export's."""

    def add_score(self, model: str, score: Score) -> None:
        self.cer[model] = score.cer
        if score.wer is not None:
            self.wer = (self.wer or {}) | {model: score.wer}

    def add_files(self, folder: Path) -> None:
        self.files = {
            path.name: {"sha256": sha256(path), "bytes": path.stat().st_size} for path in sorted(folder.iterdir())
        }

    def write(self, path: Path) -> None:
        """Atomic: a report that exists is complete."""
        partial = path.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as output:
            json.dump(asdict(self), output, indent=1, allow_nan=False)
            output.flush()
            os.fsync(output.fileno())
        partial.replace(path)
