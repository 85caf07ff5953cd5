"""``python -m speech.conversion.export NAME ORIGINAL TARGET``: exports a model and checks it."""

from __future__ import annotations

import importlib
import logging
import sys
from functools import partial
from pathlib import Path


def main() -> None:
    logging.disable(logging.WARNING)  # FunASR and the quantiser log a lot
    name, original, target = sys.argv[1:]
    module = importlib.import_module(f"speech.conversion.export.{name}")
    for path in module.export(Path(original), Path(target)):
        print(path)  # noqa: T201
    if name == "ggml":  # there is no whisper.cpp gate
        return
    gates = importlib.import_module("speech.conversion.parity.gates")
    compare = getattr(gates, name)
    if name == "sensevoice":
        quantised = compare(Path(original), Path(target), gates.noise_recordings(), model=name, quantised=True)
        if not quantised.passed:
            print(f"int8 is too far from the original and not kept: {quantised.finding}")  # noqa: T201
            (Path(target) / "model.int8.onnx").unlink()
        compare = partial(compare, quantised=False)
    finding = compare(Path(original), Path(target), gates.noise_recordings(), model=name)
    print(finding.finding)  # noqa: T201
    if not finding.passed:
        raise SystemExit(f"the export is not equal to its original: {finding.finding}")


if __name__ == "__main__":
    main()
