"""Diarization error rates of Longhand and sherpa-onnx with the same two networks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import sherpa_onnx
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.diarization import DiarizationErrorRate
from rich.table import Table

from benchmarks.recordings import load
from db.settings import get_settings
from speech.audio.chunking import cut
from speech.engines import SAMPLE_RATE, Samples
from speech.load import load_segmentation, load_vad, load_voice
from speech.models.catalogue import Catalogue
from speech.models.names import VoiceEngine
from speech.speakers.diarization import ChunkDiarizer
from speech.speakers.reconstruction import diarize_recording
from speech.text.words import Turn

THREADS = 2
SHERPA_THRESHOLDS = (0.5, 0.7)


def measure(folder: Path) -> Table:
    table = Table(title="diarization: error rate (no collar, overlap scored), speakers found, x real time")
    table.add_column("recording")
    table.add_column("speakers")
    systems: dict[str, Callable[[Samples], Sequence[Turn]]] = {"Longhand": _longhand()}
    systems |= {f"sherpa-onnx at {limit}": _sherpa(limit) for limit in SHERPA_THRESHOLDS}
    for name in systems:
        table.add_column(name)
    for rttm in sorted(folder.glob("*.rttm")):
        samples = load(rttm.with_suffix(".flac"))
        reference = _read_rttm(rttm)
        cells = []
        for system in systems.values():
            started = time.perf_counter()
            turns = system(samples)
            speed = len(samples) / SAMPLE_RATE / (time.perf_counter() - started)
            hypothesis = _annotation(turns)
            scored = Timeline([Segment(0, len(samples) / SAMPLE_RATE)])
            rate = DiarizationErrorRate(collar=0, skip_overlap=False)(reference, hypothesis, uem=scored)
            cells.append(f"{rate:.3f}, {len(hypothesis.labels())}, {speed:.0f}x")
        table.add_row(rttm.stem, str(len(reference.labels())), *cells)
    return table


def _longhand() -> Callable[[Samples], Sequence[Turn]]:
    catalogue = Catalogue(get_settings().models_path)
    vad = load_vad(catalogue)
    diarizer = ChunkDiarizer(
        load_segmentation(catalogue, threads=THREADS),
        load_voice(catalogue, VoiceEngine.CAMPPLUS_ONNX, threads=THREADS),
    )

    def run(samples: Samples) -> Sequence[Turn]:
        chunks = cut([samples], vad.stream())
        return diarize_recording([diarizer.diarize_chunk(c.samples, c.timeline) for c in chunks]).turns

    return run


def _sherpa(threshold: float) -> Callable[[Samples], Sequence[Turn]]:
    catalogue = Catalogue(get_settings().models_path)
    segmentation = sherpa_onnx.OfflineSpeakerSegmentationModelConfig(
        pyannote=sherpa_onnx.OfflineSpeakerSegmentationPyannoteModelConfig(
            model=str(catalogue.locate("pyannote-segmentation") / "segmentation.onnx")
        ),
        num_threads=THREADS,
    )
    embedding = sherpa_onnx.SpeakerEmbeddingExtractorConfig(
        model=str(catalogue.locate("campplus") / "campplus.onnx"), num_threads=THREADS
    )
    pipeline = sherpa_onnx.OfflineSpeakerDiarization(
        sherpa_onnx.OfflineSpeakerDiarizationConfig(
            segmentation=segmentation,
            embedding=embedding,
            clustering=sherpa_onnx.FastClusteringConfig(num_clusters=-1, threshold=threshold),
            min_duration_on=0.3,
            min_duration_off=0.5,
        )
    )

    def run(samples: Samples) -> Sequence[Turn]:
        spans = pipeline.process(samples).sort_by_start_time()
        return [Turn(span.start, span.end, f"SPEAKER_{span.speaker:02d}") for span in spans]

    return run


def _read_rttm(path: Path) -> Annotation:
    rows = [line.split() for line in path.read_text().splitlines() if line.startswith("SPEAKER")]
    return _annotation([Turn(float(row[3]), float(row[3]) + float(row[4]), row[7]) for row in rows])


def _annotation(turns: Sequence[Turn]) -> Annotation:
    annotation = Annotation()
    for track, turn in enumerate(turns):
        annotation[Segment(turn.start, turn.end), track] = turn.speaker
    return annotation
