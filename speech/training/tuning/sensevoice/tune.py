"""A tuning of SenseVoice from its clips to a checked export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from speech.asr.sensevoice.base import SenseVoice
from speech.asr.sensevoice.onnx_engine import SenseVoiceEngine
from speech.asr.sensevoice.torch_engine import SenseVoiceTorch
from speech.conversion.export import sensevoice as export_sensevoice
from speech.conversion.parity import gates
from speech.training.tuning.data import Clip, ReadableClip, read_audio, readable_clips
from speech.training.tuning.evaluate import Score, score, transcribe_sensevoice
from speech.training.tuning.loss import ProgressCallback
from speech.training.tuning.report import Report
from speech.training.tuning.request import Request
from speech.training.tuning.sensevoice.training import Training

MAX_PARITY_CLIPS = 8
"""Held-out clips on which the export must write what its original writes."""


class SenseVoiceTuning:
    engine = "sensevoice"

    def __init__(self, request: Request, report: Report, report_progress: ProgressCallback) -> None:
        self._request, self._report, self._report_progress = request, report, report_progress

    def read(self, clips: Sequence[Clip]) -> list[ReadableClip]:
        readable = list(readable_clips(clips))
        self._report.clips["unreadable"] += len(clips) - len(readable)
        return readable

    def train(self, train: Sequence[ReadableClip], val: Sequence[ReadableClip]) -> None:
        training = Training(self._request, self._report_progress)
        try:
            training.run(train, val)
        finally:
            self._report.losses = training.losses
            self._report.clips["unfit"] = training.unfit

    def score_originals(self, clips: Sequence[Clip]) -> dict[str, Score]:
        """Of the base, and of the tuned model before its export."""
        return {
            "base": self._score_original(self._request.base, clips),
            "tuned": self._score_original(self._request.original_folder, clips),
        }

    def _score_original(self, folder: Path, clips: Sequence[Clip]) -> Score:
        request = self._request
        engine: SenseVoice = SenseVoiceTorch(folder, threads=request.threads, device=request.device)
        torch.set_num_threads(request.threads)  # FunASR sets another number while loading
        return score(transcribe_sensevoice(engine, clips))

    def export(self, clips: Sequence[Clip]) -> gates.Finding:
        """Export to ONNX and compare on held-out clips; int8 is kept only if it passes. Raises TuningError."""
        request = self._request
        request.export_folder.mkdir()
        export_sensevoice.export(request.original_folder, request.export_folder)
        recordings = {clip.key: read_audio(clip.source) for clip in clips[:MAX_PARITY_CLIPS]}

        def compare(*, quantised: bool) -> gates.Finding:
            return gates.sensevoice(
                request.original_folder, request.export_folder, recordings, model="tuned", quantised=quantised
            )

        if not compare(quantised=True).passed:
            (request.export_folder / "model.int8.onnx").unlink()
        return compare(quantised=False)

    def score(self, folder: Path, clips: Sequence[Clip], *, joined: bool) -> Score:
        """Of an export, which hears each clip by itself, as what is beside it would change nothing."""
        return score(transcribe_sensevoice(SenseVoiceEngine(folder, threads=self._request.threads), clips))
