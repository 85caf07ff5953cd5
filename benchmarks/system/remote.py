"""Whisper behind HTTP beside Whisper in this process: one Longhand as the engine of another, in one run.

Both hear the same chunks with the same model, and each has all cores: the other one is idle meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich.table import Table

from benchmarks.recordings import Recording, build, error_rate, load
from benchmarks.stack import stack
from benchmarks.system.throughput import threads
from db.settings import get_settings
from remote.endpoints import EndpointsFile
from remote.engines import RemoteEngines
from speech.audio.chunking import cut
from speech.engines import SAMPLE_RATE, Transcriber, Utterance
from speech.load import load_aligner, load_refine, load_vad
from speech.models.catalogue import Catalogue
from speech.models.names import RefineEngine

SINGLES = 9
"""Chunks that are asked for one by one."""

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
            f"concurrency = {AT_ONCE}\nbase_seconds = 300\n"
        )
        remote = RemoteEngines(EndpointsFile(file), lambda: load_aligner(catalogue, device="cpu"))
        here = load_refine(catalogue, RefineEngine.WHISPER, device="cpu", threads=threads())
        for name, engine in (("in this process", here), ("behind HTTP", remote.engine("longhand"))):
            table.add_row(name, *_row(engine, utterances, recording))
    return table


def _row(engine: Transcriber, utterances: Sequence[Utterance], recording: Recording) -> Sequence[str]:
    engine.transcribe(utterances[:1])
    singles = []
    for utterance in utterances[:SINGLES]:
        began = time.monotonic()
        engine.transcribe([utterance])
        singles.append(time.monotonic() - began)
    began = time.monotonic()
    hypotheses = engine.transcribe(utterances)
    seconds = time.monotonic() - began
    text = " ".join(phrase.text for hypothesis in hypotheses for phrase in hypothesis.phrases)
    return (
        f"{median(singles):.2f}, {max(singles):.2f}",
        f"{seconds:.1f}",
        f"{recording.duration / seconds:.1f}",
        f"{error_rate(recording.text, text):.3f}",
    )
