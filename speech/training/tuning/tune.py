"""A tuning from its lists to a checked export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from speech.asr.sensevoice.base import SenseVoice
from speech.asr.sensevoice.onnx_engine import SenseVoiceEngine
from speech.asr.sensevoice.torch_engine import SenseVoiceTorch
from speech.conversion.export import sensevoice as export_sensevoice
from speech.conversion.parity import gates
from speech.training.tuning.data import Clip, ReadableClip, read_audio, read_list, readable_clips
from speech.training.tuning.evaluate import Score, score
from speech.training.tuning.loss import ProgressCallback
from speech.training.tuning.report import Report
from speech.training.tuning.request import Request, TuningError, TuningErrorCode
from speech.training.tuning.train import Training

MAX_PARITY_CLIPS = 8
"""Held-out clips on which the export must write what its original writes."""


def tune(request: Request, report: Report, report_progress: ProgressCallback) -> None:
    """Read, train, evaluate and export; fills the report on the way. Raises TuningError."""
    if request.device != "cpu" and not torch.cuda.is_available():
        raise TuningError(TuningErrorCode.DEVICE_UNAVAILABLE, f"PyTorch finds no device {request.device} here.")
    report_progress({"stage": "reading"})
    train, val = (_read_clips(path, report) for path in (request.train, request.val))
    report.clips |= {"train": len(train), "val": len(val)}
    for clips, code in ((train, TuningErrorCode.NO_TRAINING_DATA), (val, TuningErrorCode.NO_HELD_OUT_DATA)):
        if not clips:
            raise TuningError(code, "Of the clips given, none can be read.")
    held_out = [readable.clip for readable in val]
    report_progress({"stage": "training", "clips": report.clips})
    training = Training(request, report_progress)
    try:
        training.run(train, val)
    finally:
        report.losses = training.losses
        report.clips["unfit"] = training.unfit
    report_progress({"stage": "evaluating"})
    for name, folder in (("base", request.base), ("tuned", request.original_folder)):
        report.add_score(name, _score_original(folder, request, held_out))
    report_progress({"stage": "exporting"})
    _export(request, report, held_out)
    report.add_score("export", score(SenseVoiceEngine(request.export_folder, threads=request.threads), held_out))
    report.add_files(request.export_folder)
    report.original = str(request.original_folder)
    report.status = "done"


def _read_clips(path: Path, report: Report) -> list[ReadableClip]:
    clips = read_list(path)
    readable = list(readable_clips(clips))
    report.clips["unreadable"] += len(clips) - len(readable)
    return readable


def _score_original(folder: Path, request: Request, clips: Sequence[Clip]) -> Score:
    engine: SenseVoice = SenseVoiceTorch(folder, threads=request.threads, device=request.device)
    torch.set_num_threads(request.threads)  # FunASR sets another number while loading
    return score(engine, clips)


def _export(request: Request, report: Report, clips: Sequence[Clip]) -> None:
    """Export to ONNX and compare on held-out clips; int8 is kept only if it passes. Raises TuningError."""
    request.export_folder.mkdir()
    export_sensevoice.export(request.original_folder, request.export_folder)
    recordings = {clip.key: read_audio(clip.source) for clip in clips[:MAX_PARITY_CLIPS]}

    def compare(*, quantised: bool) -> gates.Finding:
        return gates.sensevoice(
            request.original_folder, request.export_folder, recordings, model="tuned", quantised=quantised
        )

    if not compare(quantised=True).passed:
        (request.export_folder / "model.int8.onnx").unlink()
    finding = compare(quantised=False)
    report.parity = {"passed": finding.passed, "finding": finding.finding}
    if not finding.passed:
        raise TuningError(
            TuningErrorCode.PARITY_FAILED, f"The export is not equal to its original: {finding.finding}"
        )
