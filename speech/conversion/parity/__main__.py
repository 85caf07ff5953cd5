"""``python -m speech.conversion.parity``: runs the gates, writes a JSON report, prints a table."""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from speech.asr.sensevoice.onnx_engine import SenseVoiceEngine
from speech.asr.sensevoice.torch_engine import SenseVoiceTorch
from speech.audio.media import open_media
from speech.audio.vad.segmentation import PyannoteSegmentation
from speech.conversion.export import sensevoice as export_sensevoice
from speech.conversion.export.pyannote import load_network
from speech.conversion.parity import gates
from speech.conversion.parity.gates import Finding, Recordings, split_windows
from speech.conversion.parity.small_sensevoice import build_small_sensevoice
from speech.conversion.whisper_weights import load_model
from speech.engines import Samples, Utterance
from speech.models.catalogue import Catalogue
from speech.speakers.voiceprint import VoiceprintEngine
from speech.speakers.voiceprint_torch import VoiceprintTorch

THREADS = 2
SMALL = "a small SenseVoice"
WHISPERS = ("whisper-tiny.en",)
"""Tuned in PyTorch from the files that serve: the gate shows that both write the same."""
MAX_WHISPER_RECORDINGS = 6
CATALOGUE_GATES: dict[str, tuple[str, Callable[..., Finding]]] = {
    "sensevoice-small-fp32": ("sensevoice-small-torch", gates.sensevoice),
    "sensevoice-small": ("sensevoice-small-torch", gates.sensevoice),
    "campplus": ("campplus-torch", gates.campplus),
    "pyannote-segmentation": ("pyannote-segmentation-torch", gates.pyannote),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path(".longhand/models"))
    parser.add_argument("--recordings", type=Path, default=Path("tests/data"))
    parser.add_argument("--report", type=Path, default=Path(".longhand/parity.json"))
    parser.add_argument("--no-speed", action="store_true", help="leave out G3, which wants an idle machine")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # FunASR and the quantiser log a lot
    catalogue = Catalogue(arguments.models)
    paths = sorted(path for path in arguments.recordings.iterdir() if path.suffix in (".flac", ".wav"))
    recordings = {path.name: read_recording(path) for path in paths}
    texts = [
        json.loads(line)["text"] for line in (arguments.recordings / "manifest.jsonl").read_text().splitlines()
    ]
    with tempfile.TemporaryDirectory() as scratch:
        small = Path(scratch)
        build_small_sensevoice(small / "original", [text for text in texts if text], list(recordings.values()))
        findings = list(run(catalogue, recordings, small, speed=not arguments.no_speed))
    findings.append(run_without_torch(catalogue, arguments.recordings / "jfk.flac"))
    arguments.report.parent.mkdir(parents=True, exist_ok=True)
    arguments.report.write_text(json.dumps([asdict(finding) for finding in findings], indent=1))
    print_table(findings, arguments.report)
    # speed fails no build: a busy machine would fail a correct model
    sys.exit(any(not finding.passed for finding in findings if finding.gate != "G3"))


def read_recording(path: Path) -> Samples:
    with path.open("rb") as file, open_media(file, max_duration=3600) as media:
        return np.concatenate(list(media.blocks(seconds=8)))


def run(catalogue: Catalogue, recordings: Recordings, small: Path, *, speed: bool) -> Iterator[Finding]:
    """Every gate for which there are weights. Results of catalogue models are recorded in the catalogue."""
    exported = small / "export"
    exported.mkdir()
    export_sensevoice.export(small / "original", exported)
    # no int8 for random weights: their decisions are so close that rounding changes them
    yield gates.sensevoice(small / "original", exported, recordings, model=SMALL, quantised=False)
    for name, (original, compare) in CATALOGUE_GATES.items():
        if not (catalogue.present(name) and catalogue.present(original)):
            missing = name if not catalogue.present(name) else original
            Console().print(f"{name}: not compared, {missing} is not in {catalogue.folder}")
            continue
        finding = compare(catalogue.path(original), catalogue.path(name), recordings, model=name)
        catalogue.write_parity(name, finding.gate, finding.passed, finding.finding)
        yield finding
    for name in WHISPERS:
        if catalogue.present(name):
            folder = catalogue.path(name)
            some = dict(list(recordings.items())[:MAX_WHISPER_RECORDINGS])
            yield gates.whisper(load_model(folder), folder, some, model=name)
    if speed:
        for model, ours, theirs in _speed_pairs(catalogue, recordings, small):
            yield gates.speed(model, ours, theirs)


def _speed_pairs(
    catalogue: Catalogue, recordings: Recordings, small: Path
) -> Iterator[tuple[str, Callable[[], object], Callable[[], object]]]:
    torch.set_num_threads(THREADS)
    clips = [Utterance(samples[: 30 * 16_000]) for samples in recordings.values()]
    folders = [(SMALL, small / "original", small / "export")]
    if catalogue.present("sensevoice-small") and catalogue.present("sensevoice-small-torch"):
        folders.append(
            ("sensevoice-small", catalogue.path("sensevoice-small-torch"), catalogue.path("sensevoice-small"))
        )
    for model, original, export in folders:
        onnx = SenseVoiceEngine(export, threads=THREADS, quantised=model != SMALL)
        pytorch = SenseVoiceTorch(original, threads=THREADS)
        yield model, lambda o=onnx: o.transcribe(clips), lambda p=pytorch: p.transcribe(clips)  # type: ignore[misc]
    voice_windows = [s[i : i + 24_000] for s in recordings.values() for i in range(0, len(s) - 24_000, 24_000)]
    if catalogue.present("campplus") and catalogue.present("campplus-torch"):
        path = catalogue.path("campplus") / "campplus.onnx"
        ours = VoiceprintEngine(path, engine="", model="", window="povey", threads=THREADS)
        theirs = VoiceprintTorch(catalogue.path("campplus-torch"), threads=THREADS)
        yield "campplus", lambda: ours.embed(voice_windows), lambda: theirs.embed(voice_windows)
    if catalogue.present("pyannote-segmentation") and catalogue.present("pyannote-segmentation-torch"):
        segmentation = PyannoteSegmentation(
            catalogue.path("pyannote-segmentation") / "segmentation.onnx", threads=THREADS
        )
        network = load_network(catalogue.path("pyannote-segmentation-torch"))
        windows = np.concatenate([split_windows(samples) for samples in recordings.values()])

        def classify_original() -> None:
            with torch.inference_mode():
                for start in range(0, len(windows), 8):
                    network(torch.from_numpy(windows[start : start + 8])[:, None])

        yield "pyannote-segmentation", lambda: segmentation.class_log_probabilities(windows), classify_original


def run_without_torch(catalogue: Catalogue, recording: Path) -> Finding:
    """G4: a process that cannot import PyTorch takes a real recording through all of speech."""
    command = [
        sys.executable,
        "-m",
        "speech.conversion.parity.without_torch",
        str(catalogue.folder),
        str(recording),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (our own module)
    output = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return Finding("G4", "the whole pipeline", done.returncode == 0, output[-1] if output else "it said nothing")


def print_table(findings: list[Finding], report: Path) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("gate", "model", "", "finding"):
        table.add_column(heading)
    for finding in findings:
        mark = "passed" if finding.passed else "slower" if finding.gate == "G3" else "[red]FAILED[/red]"
        table.add_row(finding.gate, finding.model, mark, finding.finding)
    console = Console(width=150)
    console.print(table)
    console.print(f"report: {report}")


if __name__ == "__main__":
    main()
