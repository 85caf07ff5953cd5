"""Whisper behind HTTP beside Whisper in this process: one Longhand as the engine of another, in one run.

Both hear the same chunks with the same model, and each has all cores: the other one is idle meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich.table import Table

from benchmarks.recordings import Recording, build, error_rate, load
from benchmarks.stack import stack
from benchmarks.system.throughput import threads
from db.settings import get_settings
from http_engines.endpoints import EndpointsFile
from http_engines.engines import RemoteEngines
from speech.audio.chunking import cut
from speech.engines import SAMPLE_RATE, Transcriber, Utterance
from speech.load import load_aligner, load_refine, load_vad
from speech.models.catalogue import Catalogue
from speech.models.names import RefineEngine

SINGLES = 7
"""Chunks that are asked for one by one."""

ROUNDS = 2
AT_ONCE = 4
"""Requests under way: enough that the server is never idle."""


def measure(minutes: float, speech: Path) -> Table:
    table = Table(title=f"{minutes:g} minutes in chunks, Whisper base int8, {threads()} threads, language named")
    headings = ("engine", "one chunk: median s, longest", "all: s", "x real time", "word error rate")
    for heading in headings:
        table.add_column(heading)
    catalogue = Catalogue(get_settings().models_path)
    with TemporaryDirectory() as folder, stack(Path(folder) / "stack") as (started, _):
        recording = build(Path(folder) / "recording.flac", minutes, speech)
        samples = load(recording.path)
        blocks = (samples[i : i + 8 * SAMPLE_RATE] for i in range(0, len(samples), 8 * SAMPLE_RATE))
        chunks = list(cut(blocks, load_vad(catalogue).stream()))
        utterances = [Utterance(chunk.samples, language="en") for chunk in chunks]
        file = Path(folder) / "endpoints.toml"
        file.write_text(
            f'[[model]]\nname = "longhand"\nhosts = ["{started.api_url}"]\nshape = "transcriptions"\n'
            f"concurrency = {AT_ONCE}\nbase_seconds = 100\n"
        )
        remote = RemoteEngines(EndpointsFile(file), lambda: load_aligner(catalogue, device="cpu"))
        here = load_refine(catalogue, RefineEngine.WHISPER, device="cpu", threads=threads())
        engines: dict[str, Transcriber] = {"in this process": here, "behind HTTP": remote.engine("longhand")}
        for name, row in _rows(engines, utterances, recording).items():
            table.add_row(name, *row)
    return table


def _rows(
    engines: Mapping[str, Transcriber], utterances: Sequence[Utterance], recording: Recording
) -> dict[str, Sequence[str]]:
    """In turn, so that what else the machine does falls upon all."""
    singles: dict[str, list[float]] = {name: [] for name in engines}
    wholes: dict[str, list[float]] = {name: [] for name in engines}
    texts: dict[str, str] = {}
    for utterance in (utterances[0], *utterances[:SINGLES]):
        for name, engine in engines.items():
            singles[name].append(_timed(engine, [utterance])[0])
    for _ in range(ROUNDS):
        for name, engine in engines.items():
            seconds, texts[name] = _timed(engine, utterances)
            wholes[name].append(seconds)
    return {
        name: (
            # the first one has loaded and connected
            f"{median(singles[name][1:]):.2f}, {max(singles[name][1:]):.2f}",
            f"{median(wholes[name]):.1f}",
            f"{recording.duration / median(wholes[name]):.1f}",
            f"{error_rate(recording.text, texts[name]):.3f}",
        )
        for name in engines
    }


def _timed(engine: Transcriber, utterances: Sequence[Utterance]) -> tuple[float, str]:
    """Seconds, and the text."""
    began = time.monotonic()
    hypotheses = engine.transcribe(utterances)
    seconds = time.monotonic() - began
    return seconds, " ".join(phrase.text for hypothesis in hypotheses for phrase in hypothesis.phrases)
