"""``python -m speech.export NAME ORIGINAL TARGET``: one export, compared with its original."""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path


def main() -> None:
    logging.disable(logging.WARNING)  # FunASR and the quantiser talk a lot
    name, original, target = sys.argv[1:]
    module = importlib.import_module(f"speech.export.{name}")
    for path in module.export(Path(original), Path(target)):
        print(path)  # noqa: T201
    if name == "ggml":  # whisper.cpp is another implementation: nothing to be equal to
        return
    gates = importlib.import_module("speech.parity.gates")
    finding = getattr(gates, name)(Path(original), Path(target), gates.sounds(), model=name)
    print(finding.finding)  # noqa: T201
    if not finding.passed:
        raise SystemExit(f"the export is not equal to its original: {finding.finding}")


if __name__ == "__main__":
    main()
