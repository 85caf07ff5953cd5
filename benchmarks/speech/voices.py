"""How well voiceprints tell people apart: same and different pairs of clips, the equal-error rate."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
from rich.table import Table

from benchmarks.recordings import load
from db.settings import get_settings
from speech.calibration import without_pauses
from speech.engines import SAMPLE_RATE, EngineUnavailable
from speech.load import load_vad, load_voice
from speech.models.catalogue import Catalogue
from speech.models.names import VoiceEngine

CLIP_SECONDS = (3.0, 8.0)


def measure(folder: Path) -> Table:
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    catalogue = Catalogue(get_settings().models_path)
    vad = load_vad(catalogue)
    people = {
        row["path"]: without_pauses(load(folder / row["path"]), vad)
        for row in rows
        if row["path"].startswith("ocean_")
    }
    table = Table(title=f"voiceprints of {len(people)} speakers")
    for heading in ("engine", "clips of", "same", "different", "equal-error rate", "threshold"):
        table.add_column(heading)
    for name in VoiceEngine:
        try:
            engine = load_voice(catalogue, name, threads=2)
        except EngineUnavailable:
            continue
        for seconds in CLIP_SECONDS:
            size = int(seconds * SAMPLE_RATE)
            clips = [(who, s[at : at + size]) for who, s in people.items() for at in range(0, len(s) - size, size)]
            vectors = engine.embed([clip for _, clip in clips])
            same, different = pairs([who for who, _ in clips], vectors)
            rate, threshold = equal_error(same, different)
            spread = [f"{x.mean():.2f} ± {x.std():.2f} ({len(x)})" for x in (same, different)]
            table.add_row(name.value, f"{seconds:g} s", *spread, f"{rate:.1%}", f"{threshold:.2f}")
    return table


def pairs(who: list[str], vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of all pairs of clips: of one speaker, of two."""
    likeness = vectors @ vectors.T
    found: tuple[list[float], list[float]] = ([], [])
    for i, j in combinations(range(len(who)), 2):
        found[who[i] != who[j]].append(float(likeness[i, j]))
    return np.array(found[0]), np.array(found[1])


def equal_error(same: np.ndarray, different: np.ndarray) -> tuple[float, float]:
    """The rate at which as many same pairs are refused as different ones accepted, and the cosine for it."""
    thresholds = np.sort(np.concatenate([same, different]))
    refused = np.searchsorted(np.sort(same), thresholds) / len(same)
    accepted = 1 - np.searchsorted(np.sort(different), thresholds) / len(different)
    at = int(np.abs(refused - accepted).argmin())
    return float((refused[at] + accepted[at]) / 2), float(thresholds[at])
