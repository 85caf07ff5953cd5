"""A tuning of Whisper from its clips to a checked export."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from speech.asr.whisper.decoding import DRAFT, REFINE
from speech.asr.whisper.engine import WhisperEngine
from speech.audio.media import MediaError
from speech.conversion.parity import gates
from speech.conversion.whisper_weights import save_model
from speech.engines import SAMPLE_RATE, Utterance
from speech.text.script import join_words
from speech.training.tuning.data import Clip
from speech.training.tuning.evaluate import Score, Transcribed, divide, score
from speech.training.tuning.loss import ProgressCallback
from speech.training.tuning.report import Report
from speech.training.tuning.request import Request
from speech.training.tuning.whisper.training import WhisperTraining
from speech.training.tuning.whisper.windows import HeardClip, Window, read_audio, sound

WINDOWS_AT_ONCE = 16
"""Whose sound is in memory."""
MAX_PARITY_CLIPS = 50
"""Held-out clips on which the export must write what its original writes."""


class WhisperTuning:
    engine = "whisper"

    def __init__(self, request: Request, report: Report, report_progress: ProgressCallback) -> None:
        """Raises TuningError."""
        self._request, self._report = request, report
        self._training = WhisperTraining(request, report_progress)

    def read(self, clips: Sequence[Clip]) -> list[HeardClip]:
        readable = []
        for clip in clips:
            try:
                heard = HeardClip(clip, len(read_audio(clip.source)) / SAMPLE_RATE)
            except (OSError, MediaError) as error:
                logging.error("%s cannot be read: %s", clip.key, error)
                self._report.clips["unreadable"] += 1
                continue
            if self._training.windows.fits(heard):
                readable.append(heard)
            else:
                self._report.clips["unfit"] += 1
        return readable

    def train(self, train: Sequence[HeardClip], val: Sequence[HeardClip]) -> None:
        try:
            self._training.run(train, val)
        finally:
            self._report.losses = self._training.progress.losses
        if self._training.held_out is not None:
            self._report.gate["doubted"] = self._training.held_out.doubted

    def score_originals(self, clips: Sequence[Clip]) -> dict[str, Score]:
        folders = {"base": self._request.base}
        if self._request.untuned != self._request.base:
            folders["untuned"] = self._request.untuned
        return {name: self.score(folder, clips, joined=True) for name, folder in folders.items()}

    def export(self, clips: Sequence[Clip]) -> gates.Finding:
        request = self._request
        save_model(self._training.model, request.base, request.export_folder)
        recordings = {clip.key: read_audio(clip.source) for clip in clips[:MAX_PARITY_CLIPS]}
        return gates.whisper(self._training.model, request.export_folder, recordings, model="tuned")

    def score(self, folder: Path, clips: Sequence[Clip], *, joined: bool) -> Score:
        request = self._request
        engine = WhisperEngine(
            folder,
            name="tuned",
            decoding=DRAFT if request.drafts else REFINE,
            device=request.device.partition(":")[0],
            threads=request.threads,
        )
        known = [
            HeardClip(clip, len(read_audio(clip.source)) / SAMPLE_RATE)
            for clip in clips
            if clip.language_code in engine.languages
        ]
        alone = [Window(heard.clip.language_code or "", ((heard, 0.0),)) for heard in known]
        windows = self._training.windows.pack(known, "held out") if joined else alone
        return score(_transcribe(engine, windows))


def _transcribe(engine: WhisperEngine, windows: Sequence[Window]) -> Iterator[list[Transcribed]]:
    for start in range(0, len(windows), WINDOWS_AT_ONCE):
        batch = windows[start : start + WINDOWS_AT_ONCE]
        utterances = [Utterance(sound(window), language=window.language) for window in batch]
        for window, hypothesis in zip(batch, engine.transcribe(utterances), strict=True):
            yield list(divide(join_words(hypothesis.words), [heard.clip for heard, _ in window.clips]))
