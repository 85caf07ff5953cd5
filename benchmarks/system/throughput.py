"""The whole stack compared with faster-whisper alone: same recording, model, threads and run."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from faster_whisper import BatchedInferencePipeline, WhisperModel
from rich.table import Table

from benchmarks.recordings import Recording, build, error_rate
from benchmarks.stack import stack, transcribe
from db.settings import get_settings

Row = tuple[str, float, str]
"""System, seconds, text."""


def measure(minutes: float, speech: Path) -> Table:
    with TemporaryDirectory() as folder:
        recording = build(Path(folder) / "recording.flac", minutes, speech)
        with stack(Path(folder) / "stack") as (started, client):
            run = transcribe(started, client, recording.path, diarize="false")
            with_speakers = transcribe(started, client, recording.path, diarize="true")
            with_language = transcribe(started, client, recording.path, diarize="false", language="en")
        rows = [
            ("Longhand, the whole stack", run.wall, run.text),
            ("Longhand, with speakers", with_speakers.wall, with_speakers.text),
            ("Longhand, told the language", with_language.wall, with_language.text),
            *_faster_whisper(recording),
        ]
    actual_minutes = recording.duration / 60
    table = Table(title=f"{actual_minutes:.1f} minutes of speech, Whisper base int8, {threads()} threads")
    for heading in ("system", "seconds", "x real time", "wall / batched", "word error rate"):
        table.add_column(heading)
    batched = next(seconds for name, seconds, _ in rows if "Batched" in name)
    for name, seconds, text in rows:
        table.add_row(
            name,
            f"{seconds:.1f}",
            f"{recording.duration / seconds:.1f}",
            f"{seconds / batched:.2f}",
            f"{error_rate(recording.text, text):.3f}",
        )
    table.caption = f"first segment.draft {run.first_draft:.1f} s after the upload's end"
    return table


def threads() -> int:
    return get_settings().refine_thread_count


def _faster_whisper(recording: Recording) -> list[Row]:
    folder = str(get_settings().models_path / "whisper-base")
    model = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=threads())
    rows = []
    started = time.monotonic()
    batched = BatchedInferencePipeline(model)
    segments, _ = batched.transcribe(str(recording.path), batch_size=8, word_timestamps=True)
    text = " ".join(segment.text for segment in segments)
    rows.append(("faster-whisper BatchedInferencePipeline", time.monotonic() - started, text))
    started = time.monotonic()
    segments, _ = model.transcribe(str(recording.path), beam_size=5, vad_filter=True, word_timestamps=True)
    text = " ".join(segment.text for segment in segments)
    rows.append(("faster-whisper sequential, beam 5, VAD", time.monotonic() - started, text))
    return rows
