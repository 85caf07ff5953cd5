"""``refine: uncertain``: error rate and refinement saved, by the confidence threshold."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.table import Table

from benchmarks.recordings import build, error_rate
from db.settings import get_settings
from speech.audio.chunking import cut
from speech.audio.media import open_media
from speech.engines import Utterance
from speech.load import load_draft, load_refine, load_vad
from speech.models.catalogue import Catalogue
from speech.models.names import DraftEngine, RefineEngine
from speech.text.words import Hypothesis

THRESHOLDS = (0.0, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 1.01)


def measure(minutes: float, speech: Path) -> Table:
    catalogue = Catalogue(get_settings().models_path)
    with TemporaryDirectory() as folder:
        recording = build(Path(folder) / "recording.flac", minutes, speech)
        with recording.path.open("rb") as file, open_media(file, max_duration=1e6) as media:
            chunks = list(cut(media.blocks(seconds=8), load_vad(catalogue).stream()))
    utterances = [Utterance(chunk.samples, language="en") for chunk in chunks]
    drafts = load_draft(catalogue, DraftEngine.WHISPER, threads=2).transcribe(utterances)
    refiner = load_refine(catalogue, RefineEngine.WHISPER, device="cpu", threads=2)
    refined: list[Hypothesis] = []
    seconds: list[float] = []
    for start in range(0, len(utterances), 4):
        started = time.perf_counter()
        batch = utterances[start : start + 4]
        refined += refiner.transcribe(batch)
        seconds += [(time.perf_counter() - started) / len(batch)] * len(batch)
    confidences = [float(np.mean([w.confidence for w in d.words])) if d.words else 0.0 for d in drafts]
    table = Table(title=f"{minutes:g} minutes, drafts by tiny.en, refined by base where the draft is less sure")
    for heading in ("refined below", "chunks refined", "refinement saved", "word error rate"):
        table.add_column(heading)
    for threshold in THRESHOLDS:
        refine_chunk = [value < threshold for value in confidences]
        hypotheses = [r if yes else d for d, r, yes in zip(drafts, refined, refine_chunk, strict=True)]
        text = " ".join(phrase.text for hypothesis in hypotheses for phrase in hypothesis.phrases)
        saved = 1 - sum(s for s, yes in zip(seconds, refine_chunk, strict=True) if yes) / sum(seconds)
        share = f"{sum(refine_chunk)} of {len(refine_chunk)}"
        table.add_row(f"{threshold:g}", share, f"{saved:.0%}", f"{error_rate(recording.text, text):.3f}")
    return table
