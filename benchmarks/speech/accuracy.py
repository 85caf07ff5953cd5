"""Word error rates of draft, refined, aligned, and faster-whisper, over several orders of the same recordings.

One order is not enough: windows that start elsewhere change the error rate by a percent and more.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import TypeVar

import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel
from rich.table import Table

from benchmarks.recordings import error_rate, sources
from db.settings import get_settings
from speech.asr.alignment.align import align
from speech.audio.chunking import Chunk, cut
from speech.engines import SAMPLE_RATE, Samples, Utterance, VoiceModel
from speech.load import load_draft, load_refine, load_vad
from speech.models.catalogue import Catalogue
from speech.models.names import DraftEngine, RefineEngine
from speech.text.words import Hypothesis

T = TypeVar("T")

ORDER_COUNT = 6
BATCH_SIZE = 4
"""Chunks refined at once, as on a worker without a GPU."""

PAUSE_SECONDS = (0.5, 2.0)
"""Shortest and longest silence between recordings."""


@dataclass
class Result:
    """Text and time of one system for one recording."""

    text: str
    seconds: float


def measure(speech: Path) -> Table:
    run_all = _load_systems()
    rates: dict[str, list[float]] = defaultdict(list)
    speeds: dict[str, list[float]] = defaultdict(list)
    rows = []
    for seed in range(ORDER_COUNT):
        audio, reference = _shuffled(sources(speech), seed)
        minutes = len(audio) / SAMPLE_RATE / 60
        for name, result in run_all(audio).items():
            rates[name].append(error_rate(reference, result.text))
            speeds[name].append(60 * minutes / result.seconds)
        rows.append([f"order {seed + 1}, {minutes:.1f} min", *(f"{values[-1]:.3f}" for values in rates.values())])
    table = Table("recording", *rates, title=f"word error rates, {get_settings().refine_thread_count} threads")
    for row in rows:
        table.add_row(*row)
    table.add_section()
    table.add_row("mean", *(f"{mean(values):.3f}" for values in rates.values()))
    table.add_row("standard error", *(f"{stdev(values) / ORDER_COUNT**0.5:.3f}" for values in rates.values()))
    table.add_row("× real time", *(f"{mean(values):.1f}" for values in speeds.values()))
    return table


def _shuffled(recordings: Sequence[tuple[Samples, str]], seed: int) -> tuple[Samples, str]:
    generator = random.Random(seed)
    order = generator.sample(list(recordings), len(recordings))
    pieces = [
        part
        for samples, _ in order
        for part in (samples, np.zeros(int(generator.uniform(*PAUSE_SECONDS) * SAMPLE_RATE), np.float32))
    ]
    return np.concatenate(pieces), " ".join(text for _, text in order)


def _load_systems() -> Callable[[Samples], dict[str, Result]]:
    """Loads all systems once; the result runs them on a recording."""
    settings = get_settings()
    catalogue = Catalogue(settings.models_path)
    threads = settings.refine_thread_count
    vad = load_vad(catalogue)
    drafter = load_draft(catalogue, DraftEngine.WHISPER, threads=threads)
    refiner = load_refine(
        *(catalogue, RefineEngine.WHISPER),
        device="cpu",
        threads=threads,
        second_readings=settings.second_readings,
    )
    whisper = WhisperModel(
        str(catalogue.locate("whisper-base")), device="cpu", compute_type="int8", cpu_threads=threads
    )
    batched = BatchedInferencePipeline(whisper)

    def run(audio: Samples) -> dict[str, Result]:
        chunks, cutting = _timed(lambda: cut_into_chunks(audio, vad))
        utterances = [Utterance(chunk.samples, language="en") for chunk in chunks]
        drafts, drafting = _timed(lambda: transcribe_batches(drafter.transcribe, utterances))
        # with their drafts, which second readings want
        told = [replace(heard, draft=draft.words) for heard, draft in zip(utterances, drafts, strict=True)]
        refined, refining = _timed(lambda: transcribe_batches(refiner.transcribe, told))
        aligned = " ".join(_aligned(*chunk_results) for chunk_results in zip(chunks, drafts, refined, strict=True))
        results = {
            "draft": Result(_text(drafts), cutting + drafting),
            "refined": Result(_text(refined), cutting + refining),
            "aligned": Result(aligned, cutting + drafting + refining),
        }
        for name, transcribe in {
            "batched": lambda: batched.transcribe(audio, batch_size=8, word_timestamps=True),
            "sequential": lambda: whisper.transcribe(audio, beam_size=5, vad_filter=True, word_timestamps=True),
            "sequential, no context": lambda: whisper.transcribe(
                audio, beam_size=5, vad_filter=True, word_timestamps=True, condition_on_previous_text=False
            ),
        }.items():
            segments, seconds = _timed(lambda transcribe=transcribe: list(transcribe()[0]))  # type: ignore[misc]
            results[name] = Result(" ".join(segment.text for segment in segments), seconds)
        return results

    return run


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def cut_into_chunks(audio: Samples, vad: VoiceModel) -> list[Chunk]:
    return list(cut(np.array_split(audio, len(audio) // (8 * SAMPLE_RATE) + 1), vad.stream()))


def transcribe_batches(
    transcribe: Callable[[Sequence[Utterance]], list[Hypothesis]], utterances: Sequence[Utterance]
) -> list[Hypothesis]:
    return [
        h
        for start in range(0, len(utterances), BATCH_SIZE)
        for h in transcribe(utterances[start : start + BATCH_SIZE])
    ]


def _text(hypotheses: Iterable[Hypothesis]) -> str:
    return " ".join(phrase.text for hypothesis in hypotheses for phrase in hypothesis.phrases)


def _aligned(chunk: Chunk, draft: Hypothesis, refined: Hypothesis) -> str:
    timeline = chunk.timeline
    result = align(timeline.place(draft), timeline.place(refined), chunk=chunk.index, timeline=timeline)
    return " ".join(segment.text for segment in result.segments)
