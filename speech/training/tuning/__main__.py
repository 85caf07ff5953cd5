"""``python -m speech.training.tuning REQUEST.json [--bound]``: fine-tunes SenseVoice, from clips to an export.

Progress goes to stdout, one JSON object a line; whatever the libraries say goes to stderr. A report is written
last, also where the tuning failed for a reason with a code; the exit code tells only whether there is one.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import torch

from speech.asr.sensevoice import SenseVoice, SenseVoiceEngine
from speech.asr.sensevoice_torch import SenseVoiceTorch
from speech.conversion.export import sensevoice as export_sensevoice
from speech.conversion.parity import gates
from speech.engines import out_of_memory
from speech.training.tuning.data import Clip, Known, read_audio, read_list, readable
from speech.training.tuning.evaluate import Score, score
from speech.training.tuning.report import Report
from speech.training.tuning.request import Code, Request, TuningError
from speech.training.tuning.train import Course, Tell

COMPARED = 8
"""Held-out clips on which the export must write what its original writes."""


BOUND = "--bound"
"""Ends the process with its standard input: with whoever holds the other end of the pipe."""


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if argument != BOUND]
    if BOUND in sys.argv:
        threading.Thread(target=_end_with_input, daemon=True).start()
    request = Request.load(Path(*arguments))
    progress = _own_stdout()
    logging.basicConfig(level=logging.INFO)

    def tell(event: dict[str, Any]) -> None:
        print(json.dumps(event), file=progress, flush=True)

    begun = time.monotonic()
    request.out.mkdir(parents=True, exist_ok=True)
    request.report.unlink(missing_ok=True)
    report = Report()
    try:
        request.check()
        _run(request, report, tell)
    except TuningError as error:
        _fail(report, error.code, str(error))
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        _fail(report, Code.OUT_OF_MEMORY, f"Lower batch_seconds: {error}")
    report.seconds = round(time.monotonic() - begun, 1)
    report.write(request.report)
    tell({"status": report.status})


def _end_with_input() -> None:
    # not through sys.stdin: its lock would outlive the interpreter
    while os.read(0, 1024):
        pass
    os._exit(1)


def _own_stdout() -> TextIO:
    """The stdout that was, for progress alone: from here on, what anything prints goes to stderr."""
    progress = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return progress


def _fail(report: Report, code: Code, message: str) -> None:
    logging.error("%s: %s", code, message)
    report.error = {"code": code, "message": message}


def _run(request: Request, report: Report, tell: Tell) -> None:
    """Nothing of an earlier run stays, and nothing of this one that does not end well. Raises TuningError."""
    folders = (request.work, request.export, request.original)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    request.work.mkdir()
    try:
        tune(request, report, tell)
    finally:
        for folder in folders[: 1 if report.status == "done" else None]:
            shutil.rmtree(folder, ignore_errors=True)


def tune(request: Request, report: Report, tell: Tell) -> None:
    """Fill the report while going on. Raises TuningError."""
    if request.device != "cpu" and not torch.cuda.is_available():
        raise TuningError(Code.DEVICE_UNAVAILABLE, f"PyTorch finds no device {request.device} here.")
    tell({"stage": "reading"})
    train, val = (_read(path, report) for path in (request.train, request.val))
    report.clips |= {"train": len(train), "val": len(val)}
    for found, missing in ((train, Code.NO_TRAINING_DATA), (val, Code.NO_HELD_OUT_DATA)):
        if not found:
            raise TuningError(missing, "Of the clips given, none can be read.")
    held_out = [known.clip for known in val]
    tell({"stage": "training", "clips": report.clips})
    course = Course(request, tell)
    try:
        course.run(train, val)
    finally:
        report.losses = course.losses
        report.clips["unfit"] = course.unfit
    tell({"stage": "evaluating"})
    for name, folder in (("base", request.base), ("tuned", request.original)):
        report.add(name, _score_original(folder, request, held_out))
    tell({"stage": "exporting"})
    _export(request, report, held_out)
    report.add("export", score(SenseVoiceEngine(request.export, threads=request.threads), held_out))
    report.add_files(request.export)
    report.original = str(request.original)
    report.status = "done"


def _read(path: Path, report: Report) -> list[Known]:
    clips = read_list(path)
    known = list(readable(clips))
    report.clips["unreadable"] += len(clips) - len(known)
    return known


def _score_original(folder: Path, request: Request, clips: Sequence[Clip]) -> Score:
    engine: SenseVoice = SenseVoiceTorch(folder, threads=request.threads, device=request.device)
    torch.set_num_threads(request.threads)  # FunASR chose another number while it loaded
    return score(engine, clips)


def _export(request: Request, report: Report, clips: Sequence[Clip]) -> None:
    """As ``speech.conversion.export`` does it, with clips instead of noise. Raises TuningError."""
    request.export.mkdir()
    export_sensevoice.export(request.original, request.export)
    recordings = {clip.key: read_audio(clip.source) for clip in clips[:COMPARED]}

    def compare(*, quantised: bool) -> gates.Finding:
        return gates.sensevoice(request.original, request.export, recordings, model="tuned", quantised=quantised)

    if not compare(quantised=True).passed:
        (request.export / "model.int8.onnx").unlink()
    found = compare(quantised=False)
    report.parity = {"passed": found.passed, "finding": found.finding}
    if not found.passed:
        raise TuningError(Code.PARITY_FAILED, f"The export is not equal to its original: {found.finding}")


if __name__ == "__main__":
    main()
