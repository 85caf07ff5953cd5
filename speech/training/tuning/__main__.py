"""``python -m speech.training.tuning REQUEST.json [--bound]``: fine-tunes a model, from clips to an export.

Progress goes to stdout, one JSON object a line; the libraries' output goes to stderr. A report is written at the
end, also where the tuning failed with an error code; the exit code is 0 whenever there is a report.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

from speech.engines import out_of_memory
from speech.training.tuning.loss import ProgressCallback
from speech.training.tuning.report import Report
from speech.training.tuning.request import Request, TuningError, TuningErrorCode
from speech.training.tuning.tune import tune

BOUND_FLAG = "--bound"
"""The process exits when its standard input closes, for example because its parent died."""


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if argument != BOUND_FLAG]
    if BOUND_FLAG in sys.argv:
        threading.Thread(target=_exit_with_stdin, daemon=True).start()
    request = Request.load(Path(*arguments))
    progress = _reserve_stdout()
    logging.basicConfig(level=logging.INFO)

    def report_progress(event: dict[str, Any]) -> None:
        print(json.dumps(event), file=progress, flush=True)

    started = time.monotonic()
    request.out.mkdir(parents=True, exist_ok=True)
    request.report_path.unlink(missing_ok=True)
    report = Report()
    try:
        request.check()
        _run(request, report, report_progress)
    except TuningError as error:
        _record_error(report, error.code, str(error))
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        _record_error(report, TuningErrorCode.OUT_OF_MEMORY, f"Lower batch_seconds: {error}")
    report.seconds = round(time.monotonic() - started, 1)
    report.write(request.report_path)
    report_progress({"status": report.status})


def _exit_with_stdin() -> None:
    # not sys.stdin: the interpreter would wait for its lock at exit
    while os.read(0, 1024):
        pass
    os._exit(1)


def _reserve_stdout() -> TextIO:
    """The original stdout, for progress alone; from now on, all other output to stdout goes to stderr."""
    progress = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return progress


def _record_error(report: Report, code: TuningErrorCode, message: str) -> None:
    logging.error("%s: %s", code, message)
    report.error = {"code": code, "message": message}


def _run(request: Request, report: Report, report_progress: ProgressCallback) -> None:
    """Deletes the output of an earlier run first, and that of this one if it fails. Raises TuningError."""
    folders = (request.work_folder, request.export_folder, request.original_folder)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    request.work_folder.mkdir()
    try:
        tune(request, report, report_progress)
    finally:
        for folder in folders[: 1 if report.status == "done" else None]:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
