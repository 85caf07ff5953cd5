"""Times for words that have none, beside Whisper's own: how far each start and end is from them.

The text is Whisper's, so that its own word times are the reference; what is measured is what a text from elsewhere
would get: by cross-attention (``WhisperAligner``), from the words of the draft, or from nothing but their lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from benchmarks.recordings import sources
from db.settings import get_settings
from speech.audio.chunking import cut
from speech.engines import SAMPLE_RATE, Utterance
from speech.load import load_aligner, load_draft, load_refine, load_vad
from speech.models.catalogue import Catalogue
from speech.models.names import DraftEngine, RefineEngine
from speech.text.timing import timed
from speech.text.words import Word


def measure(folder: Path) -> Table:
    settings = get_settings()
    catalogue, threads = Catalogue(settings.models_path), settings.refine_thread_count
    vad = load_vad(catalogue)
    refiner = load_refine(catalogue, RefineEngine.WHISPER, device="cpu", threads=threads)
    drafter = load_draft(catalogue, DraftEngine.WHISPER, threads=threads)
    aligner = load_aligner(catalogue, device="cpu", threads=threads)
    starts: dict[str, list[float]] = {}
    ends: dict[str, list[float]] = {}
    zero: dict[str, int] = {}
    for samples, _ in sources(folder):
        chunks = list(cut(np.array_split(samples, len(samples) // (8 * SAMPLE_RATE) + 1), vad.stream()))
        utterances = [Utterance(chunk.samples, language="en") for chunk in chunks]
        refined, drafts = refiner.transcribe(utterances), drafter.transcribe(utterances)
        for utterance, own, draft in zip(utterances, refined, drafts, strict=True):
            if not own.words:
                continue
            text = " ".join(word.text for word in own.words)
            units: dict[str, Callable[[], Sequence[Word]]] = {
                aligner.name: lambda u=utterance, t=text: aligner.align(u.samples, t, "en"),  # type: ignore[misc]
                "the draft's words (tiny.en)": lambda d=draft: d.words,  # type: ignore[misc]
                "their lengths": lambda: (),
            }
            for name, find in units.items():
                placed = timed(text, find(), len(utterance.samples) / SAMPLE_RATE)
                for mine, reference in zip(placed, own.words, strict=True):
                    starts.setdefault(name, []).append(abs(mine.start - reference.start))
                    ends.setdefault(name, []).append(abs(mine.end - reference.end))
                zero[name] = zero.get(name, 0) + sum(word.end <= word.start for word in placed)
    table = Table(title="seconds from Whisper's own word times: median, 90th percentile")
    for heading in ("times from", "start", "end", "words", "without duration"):
        table.add_column(heading)
    for name in starts:
        table.add_row(name, _summary(starts[name]), _summary(ends[name]), str(len(starts[name])), str(zero[name]))
    return table


def _summary(errors: Sequence[float]) -> str:
    return f"{np.median(errors):.3f}, {np.quantile(errors, 0.9):.3f}"
