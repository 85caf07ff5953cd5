"""Whisper engines alone, with narrow and wide beams, on the chunks of the pipeline."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.table import Table

from benchmarks.recordings import build, error_rate
from db.settings import get_settings
from speech.asr.whisper.decoding import DRAFT, REFINE
from speech.asr.whisper.engine import WhisperEngine
from speech.audio.chunking import cut
from speech.audio.media import open_media
from speech.engines import Utterance
from speech.load import load_vad
from speech.models.catalogue import Catalogue


def measure(minutes: float, speech: Path) -> Table:
    catalogue = Catalogue(get_settings().models_path)
    threads = get_settings().refine_thread_count
    table = Table(title=f"engines on {minutes:g} minutes, int8, {threads} threads")
    for heading in ("engine", "x real time", "word error rate"):
        table.add_column(heading)
    with TemporaryDirectory() as folder:
        recording = build(Path(folder) / "recording.flac", minutes, speech)
        started = time.monotonic()
        with recording.path.open("rb") as file, open_media(file, max_duration=1e6) as media:
            chunks = list(cut(media.blocks(seconds=8), load_vad(catalogue).stream()))
        table.add_row("decode, VAD and cut", f"{recording.duration / (time.monotonic() - started):.0f}", "-")
    utterances = [Utterance(chunk.samples, language="en") for chunk in chunks]
    for label, model, decoding in [
        ("draft, tiny.en", "whisper-tiny.en", DRAFT),
        ("draft, base", "whisper-base", DRAFT),
        ("refine, base, beam 1", "whisper-base", REFINE),
        ("refine, base, beam 5", "whisper-base", replace(REFINE, beam_size=5)),
    ]:
        engine = WhisperEngine(catalogue.locate(model), name=model, decoding=decoding, threads=threads)
        engine.transcribe(utterances[:1])
        started = time.monotonic()
        hypotheses = engine.transcribe(utterances)
        seconds = time.monotonic() - started
        text = " ".join(phrase.text for hypothesis in hypotheses for phrase in hypothesis.phrases)
        table.add_row(label, f"{recording.duration / seconds:.1f}", f"{error_rate(recording.text, text):.3f}")
    return table
