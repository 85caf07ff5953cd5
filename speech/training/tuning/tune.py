"""A tuning from its lists to a checked export, the same for all kinds of model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from speech.conversion.parity.gates import Finding
from speech.training.tuning.data import Clip, read_general, read_list
from speech.training.tuning.evaluate import Score, chance
from speech.training.tuning.loss import ProgressCallback
from speech.training.tuning.report import Report
from speech.training.tuning.request import Request, TuningError, TuningErrorCode
from speech.training.tuning.sensevoice.tune import SenseVoiceTuning
from speech.training.tuning.whisper.tune import WhisperTuning

MAX_LEARNT = 50
"""Clips that are told of."""


class Readable(Protocol):
    """A clip whose audio can be read."""

    @property
    def clip(self) -> Clip: ...


class Tuning(Protocol):
    """One kind of model. Every method may raise TuningError."""

    engine: str

    def read(self, clips: Sequence[Clip]) -> list[Any]:
        """Those of the clips that can be used, as :class:`Readable`; the report counts the others."""

    def train(self, train: Sequence[Any], val: Sequence[Any]) -> None: ...

    def score_originals(self, clips: Sequence[Clip]) -> dict[str, Score]:
        """Of the base (``base``), of the model that was never tuned (``untuned``) where that is another and can be
        decoded, and of what else there is before the export."""

    def export(self, clips: Sequence[Clip]) -> Finding:
        """Write what serves, and compare it on these clips with what was tuned."""

    def score(self, folder: Path, clips: Sequence[Clip], *, joined: bool) -> Score:
        """Of what serves, in its folder. ``joined``: several clips in a window, as those of a recording."""


def tune(request: Request, report: Report, report_progress: ProgressCallback) -> None:
    """Read, train, evaluate and export; fills the report on the way. Raises TuningError."""
    if request.device != "cpu" and not torch.cuda.is_available():
        raise TuningError(TuningErrorCode.DEVICE_UNAVAILABLE, f"PyTorch finds no device {request.device} here.")
    kind = WhisperTuning if request.is_whisper else SenseVoiceTuning
    tuning: Tuning = kind(request, report, report_progress)
    report.engine = tuning.engine
    report_progress({"stage": "reading"})
    train, val = (tuning.read(read_list(path)) for path in (request.train, request.val))
    report.clips |= {"train": len(train), "val": len(val)}
    for clips, code in ((train, TuningErrorCode.NO_TRAINING_DATA), (val, TuningErrorCode.NO_HELD_OUT_DATA)):
        if not clips:
            raise TuningError(code, "Of the clips given, none can be used.")
    held_out = [readable.clip for readable in val]
    report_progress({"stage": "training", "clips": report.clips})
    tuning.train(train, val)
    report_progress({"stage": "exporting"})
    finding = tuning.export(held_out)
    report.parity = {"passed": finding.passed, "finding": finding.finding}
    if not finding.passed:
        raise TuningError(
            TuningErrorCode.PARITY_FAILED, f"The export is not equal to its original: {finding.finding}"
        )
    report_progress({"stage": "evaluating"})
    export = tuning.score(request.export_folder, held_out, joined=True)
    scores = tuning.score_originals(held_out) | {"export": export}
    for name, each in scores.items():
        report.add_score(name, each)
    report.learnt = _learnt(scores["base"], scores["export"])
    report.gate["chance"] = chance(scores.get("untuned", scores["base"]), export)
    if request.general is not None:
        report.gate["general"] = _general(tuning, request, request.general)
    report.add_files(request.export_folder)
    if request.original_folder.is_dir():
        report.original = str(request.original_folder)
    report.status = "done"


def _learnt(before: Score, after: Score) -> list[str]:
    """Those with most to learn come first."""
    gains = sorted((-was, key) for key, was in before.edits.items() if was > 0 and after.edits.get(key) == 0)
    return [key for _, key in gains[:MAX_LEARNT]]


def _general(tuning: Tuning, request: Request, manifest: Path) -> dict[str, float | int]:
    """Error rates on general speech: of the model that was never tuned (``origin``), and of the export."""
    clips = read_general(manifest)
    rates = {
        name: rate
        for name, folder in (("origin", request.untuned), ("export", request.export_folder))
        if (rate := tuning.score(folder, clips, joined=False).rate) is not None and math.isfinite(rate)
    }
    return {"clips": len(clips), **rates}
