"""Recordings in which nobody talks: words a minute that the whole stack and faster-whisper write all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.recordings import normalise_words, sources, write_flac
from benchmarks.stack import stack, transcribe
from db.settings import get_settings
from speech.engines import SAMPLE_RATE, Samples

Random = np.random.Generator
Gain = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""By frequency in Hz."""

SEED = 7
BLOCK_SECONDS = 60
MAJOR_SCALE = (0, 2, 4, 5, 7, 9, 11, 12)
BABBLE_VOICES = 12
PAUSE_SECONDS = 60
"""Silence between the sentences of the last recording."""


def measure(minutes: float, speech: Path) -> Table:
    settings = get_settings()
    whisper = WhisperModel(
        str(settings.models_path / "whisper-base"),
        device="cpu",
        compute_type="int8",
        cpu_threads=settings.refine_thread_count,
    )
    batched = BatchedInferencePipeline(whisper)
    table = Table(title=f"words written a minute, {minutes:g} minutes of each, language not told")
    for heading in ("recording", "Longhand", "sequential, beam 5, VAD", "batched", "sequential without VAD"):
        table.add_column(heading)
    with TemporaryDirectory() as folder, stack(Path(folder) / "stack") as (started, client):
        for name, (pieces, said) in _recordings(minutes, speech).items():
            path = Path(folder) / f"{name}.flac"
            write_flac(path, pieces)
            texts = (
                transcribe(started, client, path, diarize="false").text,
                _text(whisper.transcribe(str(path), beam_size=5, vad_filter=True)),
                _text(batched.transcribe(str(path), batch_size=8)),
                _text(whisper.transcribe(str(path), beam_size=5)),
            )
            # more than was said: what is missing here is no merit
            table.add_row(name, *(f"{(_words(text) - said) / minutes:.2f}" for text in texts))
            path.unlink()
    table.caption = "the last one is speech with a minute of silence after every sentence: words beyond those said"
    return table


def _text(answer: tuple[object, ...]) -> str:
    return " ".join(segment.text for segment in answer[0])  # type: ignore[attr-defined]


def _words(text: str) -> int:
    return len(normalise_words(text).split())


def _recordings(minutes: float, speech: Path) -> Mapping[str, tuple[Iterator[Samples], int]]:
    """Pieces of each recording, and the number of words said in it."""
    voices = sources(speech)
    blocks = max(1, round(minutes * 60 / BLOCK_SECONDS))

    def repeat(make: Callable[[Random], Samples]) -> tuple[Iterator[Samples], int]:
        generator = np.random.default_rng(SEED)
        return (make(generator) for _ in range(blocks)), 0

    sentences = voices[: max(1, int(minutes * 60 / (PAUSE_SECONDS + 12)))]
    return {
        "silence": repeat(lambda random: np.zeros(BLOCK_SECONDS * SAMPLE_RATE, np.float32)),
        "white noise": repeat(lambda random: _white(random) * 0.05),
        "pink noise": repeat(lambda random: _shaped(random, lambda f: 1 / np.sqrt(np.maximum(f, 20))) * 0.05),
        "hum of 50 Hz": repeat(_hum),
        "music": repeat(_music),
        "breath": repeat(_breath),
        "keyboard": repeat(_keyboard),
        "applause": repeat(_applause),
        "far babble": repeat(lambda random: _babble(random, [samples for samples, _ in voices])),
        "pauses": (_with_pauses([samples for samples, _ in sentences]), sum(_words(t) for _, t in sentences)),
    }


def _white(random: Random, seconds: float = BLOCK_SECONDS) -> Samples:
    return random.standard_normal(int(seconds * SAMPLE_RATE)).astype(np.float32)


def _shaped(random: Random, gain: Gain, seconds: float = BLOCK_SECONDS) -> Samples:
    """Noise of standard deviation 1."""
    size = int(seconds * SAMPLE_RATE)
    frequencies = np.asarray(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), np.float64)
    spectrum = np.fft.rfft(random.standard_normal(size)) * gain(frequencies)
    shaped = np.fft.irfft(spectrum, size)
    return np.asarray(shaped / shaped.std(), np.float32)


def _band(low: float, high: float) -> Gain:
    return lambda f: np.exp(-((np.log(np.maximum(f, 1) / np.sqrt(low * high)) / np.log(high / low)) ** 2) * 4)


def _time() -> NDArray[np.float64]:
    return np.arange(BLOCK_SECONDS * SAMPLE_RATE) / SAMPLE_RATE


def _hum(random: Random) -> Samples:
    tones = sum(np.sin(2 * np.pi * 50 * n * _time() + random.uniform(0, 6)) / n for n in range(1, 9))
    return np.asarray(0.05 * tones + 0.002 * _white(random), np.float32)


def _music(random: Random) -> Samples:
    """A melody over chords, a note every quarter of a second, with six harmonics each."""
    mixed = np.zeros(BLOCK_SECONDS * SAMPLE_RATE, np.float32)
    for start in np.arange(0, BLOCK_SECONDS - 2, 0.25):
        chord = start % 2 == 0
        degrees = (0, 2, 4) if chord else (int(random.integers(8)),)
        for degree in degrees:
            pitch = 220 * 2 ** ((MAJOR_SCALE[degree] + (0 if chord else 12)) / 12)
            t = np.arange(int((2 if chord else 0.5) * SAMPLE_RATE)) / SAMPLE_RATE
            note = sum(np.sin(2 * np.pi * pitch * n * t) / n**1.5 for n in range(1, 7))
            envelope = np.minimum(t / 0.02, 1) * np.exp(-t * 3)
            at = int(start * SAMPLE_RATE)
            mixed[at : at + len(t)] += (0.08 * note * envelope).astype(np.float32)
    return mixed


def _breath(random: Random) -> Samples:
    """In and out, fourteen times a minute, close to the microphone."""
    phase = np.sin(2 * np.pi * 14 / 60 * _time())
    loudness = np.where(phase > 0, phase**2, 0.6 * phase**2)
    return np.asarray(0.03 * loudness * _shaped(random, _band(300, 3000)) + 0.0005 * _white(random), np.float32)


def _clicks(random: Random, a_second: float, seconds: float, band: tuple[float, float], level: float) -> Samples:
    """Short bursts of noise in a band, at random times."""
    mixed = 0.0005 * _white(random)
    for start in random.uniform(0, BLOCK_SECONDS - 0.2, int(a_second * BLOCK_SECONDS)):
        burst = _shaped(random, _band(*band), 0.1)
        burst *= np.exp(-np.arange(len(burst)) / (seconds * SAMPLE_RATE)).astype(np.float32)
        at = int(start * SAMPLE_RATE)
        mixed[at : at + len(burst)] += np.float32(level * random.uniform(0.4, 1)) * burst
    return mixed


def _keyboard(random: Random) -> Samples:
    return _clicks(random, 7, 0.006, (1500, 6000), 0.12)


def _applause(random: Random) -> Samples:
    return _clicks(random, 120, 0.01, (800, 4000), 0.05)


def _babble(random: Random, voices: list[Samples]) -> Samples:
    """A dozen voices at once behind a wall, in an echoing room: nobody can tell a word."""
    size = BLOCK_SECONDS * SAMPLE_RATE
    mixed = np.zeros(size, np.float64)
    for _ in range(BABBLE_VOICES):
        voice = np.concatenate([voices[i] for i in random.permutation(len(voices))[:12]])
        voice = np.resize(voice, size)
        mixed += np.roll(voice / (voice.std() + 1e-9), int(random.integers(size)))
    room = random.standard_normal(SAMPLE_RATE) * np.exp(-np.arange(SAMPLE_RATE) / (0.25 * SAMPLE_RATE))
    spectrum = np.fft.rfft(mixed) * np.fft.rfft(room, size)
    spectrum /= 1 + (np.fft.rfftfreq(size, 1 / SAMPLE_RATE) / 900) ** 2
    far = np.fft.irfft(spectrum, size)
    return np.asarray(0.01 * far / far.std() + 0.001 * _white(random), np.float32)


def _with_pauses(sentences: list[Samples]) -> Iterator[Samples]:
    random = np.random.default_rng(SEED)
    for samples in sentences:
        yield samples
        yield 0.0003 * _white(random, PAUSE_SECONDS)
