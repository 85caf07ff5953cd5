"""How well voiceprints separate speakers: cosines of same and different pairs, equal-error rate."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
from rich.table import Table

from benchmarks.recordings import load
from db.settings import get_settings
from speech.calibration import remove_pauses
from speech.engines import SAMPLE_RATE, EngineUnavailable
from speech.load import load_vad, load_voice
from speech.models.catalogue import Catalogue
from speech.models.names import VoiceEngine

CLIP_SECONDS = (3.0, 8.0)


def measure(folder: Path) -> Table:
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    catalogue = Catalogue(get_settings().models_path)
    vad = load_vad(catalogue)
    speakers = {
        row["path"]: remove_pauses(load(folder / row["path"]), vad)
        for row in rows
        if row["path"].startswith("ocean_")
    }
    table = Table(title=f"voiceprints of {len(speakers)} speakers")
    for heading in ("engine", "clips of", "same", "different", "equal-error rate", "threshold"):
        table.add_column(heading)
    for name in VoiceEngine:
        try:
            engine = load_voice(catalogue, name, threads=2)
        except EngineUnavailable:
            continue
        for seconds in CLIP_SECONDS:
            size = int(seconds * SAMPLE_RATE)
            clips = [
                (speaker, s[i : i + size])
                for speaker, s in speakers.items()
                for i in range(0, len(s) - size, size)
            ]
            vectors = engine.embed([clip for _, clip in clips])
            same, different = pair_cosines([speaker for speaker, _ in clips], vectors)
            rate, threshold = equal_error_rate(same, different)
            spread = [f"{x.mean():.2f} ± {x.std():.2f} ({len(x)})" for x in (same, different)]
            table.add_row(name.value, f"{seconds:g} s", *spread, f"{rate:.1%}", f"{threshold:.2f}")
    return table


def pair_cosines(labels: list[str], vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of all pairs of clips: of one speaker, of two."""
    cosines = vectors @ vectors.T
    same_and_different: tuple[list[float], list[float]] = ([], [])
    for i, j in combinations(range(len(labels)), 2):
        same_and_different[labels[i] != labels[j]].append(float(cosines[i, j]))
    return np.array(same_and_different[0]), np.array(same_and_different[1])


def equal_error_rate(same: np.ndarray, different: np.ndarray) -> tuple[float, float]:
    """The rate at which false rejections equal false acceptances, and the cosine threshold for it."""
    thresholds = np.sort(np.concatenate([same, different]))
    rejected = np.searchsorted(np.sort(same), thresholds) / len(same)
    accepted = 1 - np.searchsorted(np.sort(different), thresholds) / len(different)
    index = int(np.abs(rejected - accepted).argmin())
    return float((rejected[index] + accepted[index]) / 2), float(thresholds[index])
