"""Word times at the edges of utterances: how far the first word's start and the last word's end are off.

References are the sound itself, not another model: an utterance begins and ends where its loudness crosses a level
between that of its quiet tenth and its loudest twentieth. Recordings need a ``.ref.json`` beside them, a list of
``{start, end, text}``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from faster_whisper import WhisperModel
from rapidfuzz.distance import Levenshtein
from rich.table import Table

from benchmarks.recordings import load, normalise_words
from db.settings import get_settings
from speech.asr.alignment.align import align
from speech.audio.chunking import cut
from speech.engines import SAMPLE_RATE, Samples, Utterance
from speech.load import load_refine, load_vad
from speech.models.catalogue import Catalogue
from speech.models.names import RefineEngine

FRAME_SAMPLES = 160
EDGE = 0.6
"""Of the way from the quiet level to the loud one."""


@dataclass(frozen=True, slots=True)
class TimedWord:
    text: str
    start: float
    end: float


def measure(folder: Path) -> Table:
    table = Table(title="word times at the edges of utterances, seconds off: median, 90th percentile, utterances")
    for heading in ("system", "first word's start", "last word's end"):
        table.add_column(heading)
    recordings = [(load(path.with_suffix("").with_suffix(".flac")), path) for path in _references(folder)]
    for name, transcribe in _systems().items():
        starts: list[float] = []
        ends: list[float] = []
        for samples, path in recordings:
            utterances = [_by_sound(row, samples) for row in json.loads(path.read_text())]
            for expected, heard, first, last in _matches(utterances, list(transcribe(samples))):
                starts += [abs(heard.start - expected.start)] if first else []
                ends += [abs(heard.end - expected.end)] if last else []
        table.add_row(name, _summary(starts), _summary(ends))
    return table


def _references(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.ref.json"), *folder.glob("large/*.ref.json")])


def _by_sound(row: dict[str, object], samples: Samples) -> TimedWord:
    """The utterance, from where it becomes loud to where it stops being so."""
    start, end = float(str(row["start"])), float(str(row["end"]))
    sound = samples[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)]
    frames = sound[: len(sound) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    level = np.convolve(20 * np.log10(np.sqrt(np.mean(frames**2, axis=1)) + 1e-9), np.ones(3) / 3, "same")
    quiet, loud = np.quantile(level, (0.1, 0.95))
    sounding = np.flatnonzero(level > quiet + EDGE * (loud - quiet))
    seconds = FRAME_SAMPLES / SAMPLE_RATE
    return TimedWord(str(row["text"]), start + sounding[0] * seconds, start + (sounding[-1] + 1) * seconds)


def _matches(
    utterances: Sequence[TimedWord], words: Sequence[TimedWord]
) -> Iterator[tuple[TimedWord, TimedWord, bool, bool]]:
    """(utterance, word heard, whether it is its first, whether it is its last) for words heard right."""
    expected = [
        (word, utterance, place == 0, place == len(split) - 1)
        for utterance in utterances
        for split in [normalise_words(utterance.text).split()]
        for place, word in enumerate(split)
    ]
    heard = [(part, word) for word in words for part in normalise_words(word.text).split()]
    for block in Levenshtein.opcodes([word for word, *_ in expected], [part for part, _ in heard]):
        if block.tag == "equal":
            for i, j in zip(
                range(block.src_start, block.src_end), range(block.dest_start, block.dest_end), strict=True
            ):
                _, utterance, first, last = expected[i]
                yield utterance, heard[j][1], first, last


def _summary(errors: Sequence[float]) -> str:
    return f"{np.median(errors):.3f}, {np.quantile(errors, 0.9):.3f}, {len(errors)}"


def _systems() -> dict[str, Callable[[Samples], Iterable[TimedWord]]]:
    settings = get_settings()
    catalogue = Catalogue(settings.models_path)
    threads = settings.refine_thread_count
    vad = load_vad(catalogue)
    refiner = load_refine(catalogue, RefineEngine.WHISPER, device="cpu", threads=threads)
    whisper = WhisperModel(
        str(catalogue.locate("whisper-base")), device="cpu", compute_type="int8", cpu_threads=threads
    )

    def longhand(samples: Samples) -> Iterator[TimedWord]:
        chunks = list(cut(np.array_split(samples, len(samples) // (8 * SAMPLE_RATE) + 1), vad.stream()))
        refined = refiner.transcribe([Utterance(chunk.samples, language="en") for chunk in chunks])
        for chunk, hypothesis in zip(chunks, refined, strict=True):
            timeline = chunk.timeline
            aligned = align(None, timeline.place(hypothesis), chunk=chunk.index, timeline=timeline)
            for segment in aligned.segments:
                yield from (TimedWord(word.text, word.start, word.end) for word in segment.words)

    def sequential(samples: Samples) -> Iterator[TimedWord]:
        segments, _ = whisper.transcribe(
            samples, language="en", beam_size=5, vad_filter=True, word_timestamps=True
        )
        for segment in segments:
            yield from (TimedWord(word.word, word.start, word.end) for word in segment.words or ())

    return {"Longhand": longhand, "faster-whisper, sequential": sequential}
