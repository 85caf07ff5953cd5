"""Each engine in a process of its own: speed with one and two threads, memory once loaded."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from rich.table import Table

from benchmarks.recordings import SPEECH_FOLDER, sources
from db.settings import get_settings
from speech.engines import SAMPLE_RATE, EngineUnavailable, Samples, Utterance
from speech.load import load_draft, load_refine, load_segmentation, load_vad, load_voice
from speech.models.catalogue import Catalogue
from speech.models.names import DraftEngine, RefineEngine, VadEngine, VoiceEngine

AUDIO_SECONDS = 120
ENGINES = (
    *(name.value for name in VadEngine),
    *("sensevoice-onnx", "whisper draft", "whisper", "whisper-cpp"),
    *("campplus-onnx", "pyannote-onnx"),
)

EngineCall = Callable[[Samples], object]


def measure(folder: Path) -> Table:
    table = Table(title=f"engines on {AUDIO_SECONDS} s of speech, x real time and MB")
    for heading in ("engine", "1 thread", "2 threads", "MB, loaded", "MB, peak"):
        table.add_column(heading)
    for name in ENGINES:
        results = [_run_process(name, threads, folder) for threads in (1, 2)]
        if any(result is None for result in results):
            table.add_row(name, "not here")
            continue
        one, two = (result for result in results if result is not None)
        figures = (f"{one['speed']:.0f}", f"{two['speed']:.0f}", f"{two['loaded']:.0f}", f"{two['peak']:.0f}")
        table.add_row(name, *figures)
    return table


def _run_process(name: str, threads: int, folder: Path) -> dict[str, float] | None:
    command = [sys.executable, "-m", "benchmarks.speech.loaded", name, str(threads), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return dict(json.loads(done.stdout.splitlines()[-1])) if done.returncode == 0 else None


def _load(name: str, threads: int) -> EngineCall:
    catalogue = Catalogue(get_settings().models_path)
    if name in list(VadEngine):
        model = load_vad(catalogue, VadEngine(name))
        return lambda samples: model.stream().push(samples)
    if name == "campplus-onnx":
        embedder = load_voice(catalogue, VoiceEngine.CAMPPLUS_ONNX, threads=threads)
        return lambda samples: embedder.embed(_windows(samples, 1.5))
    if name == "pyannote-onnx":
        segmentation = load_segmentation(catalogue, threads=threads)
        return lambda samples: segmentation.segment(np.stack(_windows(samples, 10)))
    if name in ("sensevoice-onnx", "whisper draft"):
        engine = load_draft(catalogue, DraftEngine(name.removesuffix(" draft")), threads=threads)
    else:
        engine = load_refine(catalogue, RefineEngine(name), model="base", device="cpu", threads=threads)
    return lambda samples: engine.transcribe([Utterance(w, language="en") for w in _windows(samples, 30)])


def _windows(samples: Samples, seconds: float) -> list[Samples]:
    size = int(seconds * SAMPLE_RATE)
    return [samples[i : i + size] for i in range(0, len(samples) - size + 1, size)]


def main(name: str, threads: int, folder: Path) -> None:
    joined = np.concatenate([samples for samples, _ in sources(folder)])
    samples = np.resize(joined, AUDIO_SECONDS * SAMPLE_RATE)
    process = psutil.Process()
    before = process.memory_info().rss
    try:
        run = _load(name, threads)
    except EngineUnavailable as error:
        raise SystemExit(str(error)) from error
    run(samples[: 30 * SAMPLE_RATE])
    loaded = process.memory_info().rss - before
    started = time.perf_counter()
    run(samples)
    speed = AUDIO_SECONDS / (time.perf_counter() - started)
    status = Path("/proc/self/status").read_text()
    peak = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024 - before
    print(json.dumps({"speed": speed, "loaded": loaded / 1e6, "peak": peak / 1e6}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else SPEECH_FOLDER)
