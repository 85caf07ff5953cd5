"""Audio that makes recognisers repeat, hallucinate or crash, through chunking, drafting, refining and aligning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from speech.asr.alignment.align import align
from speech.audio.chunking import cut
from speech.engines import SAMPLE_RATE, Samples, Transcriber, Utterance, VoiceModel
from speech.load import load_draft, load_refine, load_vad
from speech.models.catalogue import Catalogue
from speech.models.names import DraftEngine, RefineEngine
from speech.text.repetition import is_repetitive
from speech.text.words import Segment
from tests.conftest import MODELS
from tests.media import load, media_file
from tests.speech.asr.test_engines import TEXTS, error_rate
from tests.speech.audio.test_media import decode

Transcribe = Callable[[Samples], list[Segment]]


@pytest.fixture(scope="module")
def engines() -> tuple[VoiceModel, Transcriber, Transcriber]:
    catalogue = Catalogue(MODELS)
    return (
        load_vad(catalogue),
        load_draft(catalogue, DraftEngine.WHISPER, threads=2),
        load_refine(catalogue, RefineEngine.WHISPER, device="cpu", threads=2),
    )


@pytest.fixture(scope="module")
def transcribe(engines: tuple[VoiceModel, Transcriber, Transcriber]) -> Transcribe:
    vad, drafter, refiner = engines

    def run(samples: Samples) -> list[Segment]:
        segments: list[Segment] = []
        blocks = (samples[at : at + 8 * SAMPLE_RATE] for at in range(0, len(samples), 8 * SAMPLE_RATE))
        for chunk in cut(blocks, vad.stream()):
            utterance = Utterance(chunk.samples, language="en")
            (draft,), (refined,) = drafter.transcribe([utterance]), refiner.transcribe([utterance])
            hypotheses = (chunk.timeline.place(draft), chunk.timeline.place(refined))
            segments += align(*hypotheses, chunk=chunk.index, timeline=chunk.timeline).segments
        words = [word for segment in segments for word in segment.words]
        assert not is_repetitive(word.text for word in words)
        assert all(0 <= w.start <= w.end <= len(samples) / SAMPLE_RATE + 0.1 for w in words)
        return segments

    return run


def text_of(segments: list[Segment]) -> str:
    return " ".join(segment.text for segment in segments)


def word_error_rate(name: str, segments: list[Segment]) -> float:
    return error_rate(TEXTS[name], text_of(segments))


def music(seconds: float) -> Samples:
    """Chords of plucked strings, one a second."""
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    chords = [(220, 277, 330), (196, 247, 294), (262, 330, 392), (175, 220, 262)]
    bars = [
        sum(np.sin(2 * np.pi * pitch * k * time) / k for pitch in chord for k in (1, 2, 3)) * np.exp(-3 * time)
        for chord in chords
    ]
    return np.resize(0.1 * np.concatenate(bars), int(seconds * SAMPLE_RATE)).astype(np.float32)


@pytest.mark.parametrize(
    "sound",
    [
        pytest.param(music(25), id="music"),
        pytest.param(np.random.default_rng(3).normal(0, 0.1, 25 * SAMPLE_RATE).astype(np.float32), id="noise"),
        pytest.param(np.full(25 * SAMPLE_RATE, 0.5, np.float32), id="a constant"),
        pytest.param(np.sign(music(25)), id="a square wave at full scale"),
    ],
)
def test_audio_without_speech_gives_hardly_any_words(transcribe: Transcribe, sound: Samples) -> None:
    assert len(text_of(transcribe(sound)).split()) <= 3


def test_one_word_in_twenty_minutes_of_silence(transcribe: Transcribe) -> None:
    samples = np.zeros(1200 * SAMPLE_RATE, np.float32)
    word = load("jfk.flac")[int(1.2 * SAMPLE_RATE) : int(2.4 * SAMPLE_RATE)]  # "Americans"
    at = 745 * SAMPLE_RATE
    samples[at : at + len(word)] = word
    segments = transcribe(samples)
    assert "america" in text_of(segments).lower()
    assert len(text_of(segments).split()) <= 4
    assert all(744 < segment.start < segment.end < 749 for segment in segments)


def test_two_people_at_once(transcribe: Transcribe) -> None:
    one, other = load("librivox_0870.flac"), load("jfk.flac")
    mixed = other.copy()
    mixed[: len(one)] += one
    segments = transcribe(mixed / np.abs(mixed).max())
    assert 5 <= len(text_of(segments).split()) <= 50


def test_a_fifth_of_a_second(transcribe: Transcribe) -> None:
    clip = load("jfk.flac")[int(0.4 * SAMPLE_RATE) : int(0.6 * SAMPLE_RATE)]
    assert len(text_of(transcribe(clip)).split()) <= 3


def test_clipping(transcribe: Transcribe) -> None:
    assert word_error_rate("jfk.flac", transcribe(np.clip(load("jfk.flac") * 12, -1, 1))) < 0.2


@pytest.mark.parametrize(
    ("container", "codec", "rate", "layout", "channels"),
    [("wav", "pcm_mulaw", 8_000, "mono", 1), ("wav", "pcm_s16le", 48_000, "7.1", 8)],
)
def test_telephones_and_eight_channels(
    transcribe: Transcribe, container: str, codec: str, rate: int, layout: str, channels: int
) -> None:
    samples = load("jfk.flac")
    places = np.arange(0, len(samples) - 1, SAMPLE_RATE / rate)
    resampled = np.interp(places, np.arange(len(samples)), samples).astype(np.float32)
    sound = np.zeros((channels, len(resampled)), np.float32)
    sound[-1] = resampled * (0.9 / np.abs(resampled).max())
    body = media_file(sound, rate=rate, container=container, codec=codec, layout=layout)
    assert word_error_rate("jfk.flac", transcribe(decode(body))) < 0.2
