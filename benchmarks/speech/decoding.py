"""What it costs to decode in a process of its own: ingest's computation with and without, in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from rich.table import Table

from benchmarks.recordings import build
from db.settings import get_settings
from speech.audio import flac
from speech.audio.chunking import cut
from speech.audio.isolated.client import IsolatedDecoder
from speech.audio.media import open_media
from speech.engines import VoiceModel
from speech.load import load_vad
from speech.models.catalogue import Catalogue

BLOCK_SECONDS = 8.0
RUNS = 7

Open = Callable[..., AbstractContextManager[Any]]


def measure(minutes: float, speech: Path) -> Table:
    vad = load_vad(Catalogue(get_settings().models_path))
    decoder = IsolatedDecoder()
    decoder.start()
    table = Table(title=f"decoding, cutting and storing chunks as FLAC; medians of {RUNS} runs, taken in turn")
    for heading in ("recording", "in place, s", "isolated, s", "isolated / in place", "opening a file, ms"):
        table.add_column(heading)
    with TemporaryDirectory() as folder:
        for length in (minutes, 0.1):
            recording = build(Path(folder) / f"{length}.flac", length, speech)
            _ingest(recording.path, decoder.open, vad)
            pairs = [
                (_ingest(recording.path, open_media, vad), _ingest(recording.path, decoder.open, vad))
                for _ in range(RUNS)
            ]
            in_place, isolated = (median(column) for column in zip(*pairs, strict=True))
            opening = median(_opening(recording.path, decoder.open) for _ in range(RUNS))
            ratio = median(b / a for a, b in pairs)
            table.add_row(
                f"{recording.duration:.0f} s",
                f"{in_place:.3f}",
                f"{isolated:.3f}",
                f"{ratio:.3f}",
                f"{1000 * opening:.1f}",
            )
    decoder.close()
    return table


def _ingest(path: Path, open_: Open, vad: VoiceModel) -> float:
    started = time.perf_counter()
    with path.open("rb") as file, _opened(open_, file) as media:
        for chunk in cut(media.blocks(seconds=BLOCK_SECONDS), vad.stream()):
            flac.encode(chunk.samples)
    return time.perf_counter() - started


def _opening(path: Path, open_: Open) -> float:
    started = time.perf_counter()
    with path.open("rb") as file, _opened(open_, file):
        return time.perf_counter() - started


def _opened(open_: Open, file: BinaryIO) -> AbstractContextManager[Any]:
    return open_(file, max_duration=1e6)
