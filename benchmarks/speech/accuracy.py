"""Draft alone, refined alone, aligned, and faster-whisper beside them, over several orders of the same recordings.

One order says little: a window that happens to begin elsewhere moves the error rate by a percent and more.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import TypeVar

import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel
from rich.table import Table

from benchmarks.recordings import error_rate, sources
from db.settings import get_settings
from speech.asr.alignment import align
from speech.audio.chunking import Chunk, cut
from speech.engines import SAMPLE_RATE, Samples, Transcriber, Utterance, VoiceModel
from speech.load import load_draft, load_refine, load_vad
from speech.models.catalogue import Catalogue
from speech.models.names import DraftEngine, RefineEngine
from speech.text.words import Hypothesis, Phrase
from tasks.steps.refine import PROMPT_CHUNKS, history

T = TypeVar("T")

ORDERS = 6
BATCH = 4
"""Chunks refined at once, as on a worker without a GPU."""

PAUSES = (0.5, 2.0)
"""Seconds of silence between recordings, at least and at most."""


@dataclass
class Heard:
    """What one system made of one recording."""

    text: str
    seconds: float


def measure(speech: Path) -> Table:
    run = _systems()
    rates: dict[str, list[float]] = defaultdict(list)
    speeds: dict[str, list[float]] = defaultdict(list)
    rows = []
    for seed in range(ORDERS):
        audio, reference = _shuffled(sources(speech), seed)
        minutes = len(audio) / SAMPLE_RATE / 60
        for name, heard in run(audio).items():
            rates[name].append(error_rate(reference, heard.text))
            speeds[name].append(60 * minutes / heard.seconds)
        rows.append([f"order {seed + 1}, {minutes:.1f} min", *(f"{values[-1]:.3f}" for values in rates.values())])
    table = Table("recording", *rates, title=f"word error rates, {get_settings().refine_thread_count} threads")
    for row in rows:
        table.add_row(*row)
    table.add_section()
    table.add_row("mean", *(f"{mean(values):.3f}" for values in rates.values()))
    table.add_row("standard error", *(f"{stdev(values) / ORDERS**0.5:.3f}" for values in rates.values()))
    table.add_row("× real time", *(f"{mean(values):.1f}" for values in speeds.values()))
    return table


def _shuffled(recordings: Sequence[tuple[Samples, str]], seed: int) -> tuple[Samples, str]:
    chance = random.Random(seed)
    order = chance.sample(list(recordings), len(recordings))
    pieces = [
        part
        for samples, _ in order
        for part in (samples, np.zeros(int(chance.uniform(*PAUSES) * SAMPLE_RATE), np.float32))
    ]
    return np.concatenate(pieces), " ".join(text for _, text in order)


def _systems() -> Callable[[Samples], dict[str, Heard]]:
    """All systems, loaded once."""
    settings = get_settings()
    catalogue = Catalogue(settings.models_path)
    threads = settings.refine_thread_count
    vad = load_vad(catalogue)
    drafter = load_draft(catalogue, DraftEngine.WHISPER, threads=threads)
    refiner = load_refine(catalogue, RefineEngine.WHISPER, device="cpu", threads=threads)
    whisper = WhisperModel(
        str(catalogue.locate("whisper-base")), device="cpu", compute_type="int8", cpu_threads=threads
    )
    batched = BatchedInferencePipeline(whisper)

    def run(audio: Samples) -> dict[str, Heard]:
        chunks, cutting = _timed(lambda: _cut(audio, vad))
        utterances = [Utterance(chunk.samples, language="en") for chunk in chunks]
        drafts, drafting = _timed(lambda: _in_batches(drafter.transcribe, utterances))
        refined, refining = _timed(lambda: _in_lanes(refiner, utterances))
        aligned = " ".join(_aligned(*reading) for reading in zip(chunks, drafts, refined, strict=True))
        heard = {
            "draft": Heard(_text(drafts), cutting + drafting),
            "refined": Heard(_text(refined), cutting + refining),
            "aligned": Heard(aligned, cutting + drafting + refining),
        }
        for name, transcribe in {
            "batched": lambda: batched.transcribe(audio, batch_size=8, word_timestamps=True),
            "sequential": lambda: whisper.transcribe(audio, beam_size=5, vad_filter=True, word_timestamps=True),
            "sequential, no context": lambda: whisper.transcribe(
                audio, beam_size=5, vad_filter=True, word_timestamps=True, condition_on_previous_text=False
            ),
        }.items():
            segments, seconds = _timed(lambda transcribe=transcribe: list(transcribe()[0]))  # type: ignore[misc]
            heard[name] = Heard(" ".join(segment.text for segment in segments), seconds)
        return heard

    return run


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    begun = time.perf_counter()
    return work(), time.perf_counter() - begun


def _cut(audio: Samples, vad: VoiceModel) -> list[Chunk]:
    return list(cut(np.array_split(audio, len(audio) // (8 * SAMPLE_RATE) + 1), vad.stream()))


def _in_batches(
    transcribe: Callable[[Sequence[Utterance]], list[Hypothesis]], utterances: Sequence[Utterance]
) -> list[Hypothesis]:
    return [h for start in range(0, len(utterances), BATCH) for h in transcribe(utterances[start : start + BATCH])]


def _in_lanes(refiner: Transcriber, utterances: Sequence[Utterance]) -> list[Hypothesis]:
    """As the queue has it: chunks of a lane one after the other, each with the text before it."""
    lane = get_settings().refine_lane
    done: dict[int, Hypothesis] = {}
    for place in range(lane):
        wave = range(place, len(utterances), lane)
        ready = [replace(utterances[i], history=_before(done, i)) for i in wave]
        done |= zip(wave, _in_batches(refiner.transcribe, ready), strict=True)
    return [done[i] for i in range(len(utterances))]


def _before(done: Mapping[int, Hypothesis], chunk: int) -> tuple[Phrase, ...]:
    earlier = range(chunk - 1, max(-1, chunk - 1 - PROMPT_CHUNKS), -1)
    return history([(0.0, done[i].to_json() if i in done else None) for i in earlier])


def _text(hypotheses: Iterable[Hypothesis]) -> str:
    return " ".join(phrase.text for hypothesis in hypotheses for phrase in hypothesis.phrases)


def _aligned(chunk: Chunk, draft: Hypothesis, refined: Hypothesis) -> str:
    start, end = chunk.start_samples / SAMPLE_RATE, (chunk.start_samples + len(chunk.samples)) / SAMPLE_RATE
    result = align(draft.shifted(start), refined.shifted(start), chunk=chunk.index, start=start, end=end)
    return " ".join(segment.text for segment in result.segments)
