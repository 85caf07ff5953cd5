"""Peak memory of the API during small and large uploads, and of every process over short and long audio."""

from __future__ import annotations

import wave
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from rich.table import Table

from benchmarks.recordings import build
from benchmarks.stack import Memory, stack, transcribe

MB = 1_000_000


def uploads(sizes: tuple[int, ...] = (10 * MB, 1000 * MB)) -> Table:
    """WAV files of silence, which cost little to transcribe; each in a stack of its own."""
    table = Table(title="API memory during one upload, MB")
    for heading in ("upload", "before", "peak", "growth", "MB a second", "peak of rclone"):
        table.add_column(heading)
    for size in sizes:
        with TemporaryDirectory() as folder:
            file = Path(folder) / "silence.wav"
            _write_silence(file, size)
            with stack(Path(folder) / "stack") as (started, _), Memory(started) as memory:
                response = httpx.post(
                    f"{started.api_url}/v1/jobs", files={"file": file.open("rb")}, timeout=600
                ).raise_for_status()
                seconds = response.elapsed.total_seconds()
                httpx.post(f"{started.api_url}/v1/jobs/{response.json()['id']}/cancel").raise_for_status()
            before, peak = memory.idle["api"], memory.peak["api"]
            figures = (before, peak, peak - before, size / MB / seconds, memory.peak["s3"])
            table.add_row(f"{size / MB:.0f} MB", *(f"{figure:.0f}" for figure in figures))
    return table


def _write_silence(path: Path, size: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        block = bytes(MB)
        for _ in range(size // MB):
            file.writeframesraw(block)


def workers(lengths: tuple[float, ...], speech: Path, rest: float) -> Table:
    """Each length in a stack of its own, since a peak does not go down again."""
    table = Table(title="peak memory of each process, MB")
    table.add_column("process")
    runs = []
    for minutes in lengths:
        table.add_column(f"{minutes:g} minutes")
        with TemporaryDirectory() as folder:
            recording = build(Path(folder) / "recording.flac", minutes, speech, rest)
            with stack(Path(folder) / "stack") as (started, client):
                runs.append(transcribe(started, client, recording.path))
    for name in runs[0].peak:
        table.add_row(name, *(f"{run.peak[name]:.0f}" for run in runs))
    table.add_section()
    table.add_row("seconds from upload to completion", *(f"{run.wall:.0f}" for run in runs))
    return table
