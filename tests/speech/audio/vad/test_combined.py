from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from speech.audio.chunking import cut
from speech.audio.vad.combined import GUARD_SECONDS, MARGIN, ONSET, CombinedVad
from speech.engines import SAMPLE_RATE, Samples, VoiceDetector
from speech.load import load_vad
from speech.models.catalogue import Catalogue
from speech.models.names import VadEngine
from tests.conftest import MODELS
from tests.tasks.test_voices import load_recording

FRAME = 64
FRAMES = 12_000
"""48 s."""


class FakeDetector:
    """Takes the first sample of each of its frames, multiplied by ``factor``, for a probability."""

    def __init__(self, frame_samples: int, factor: float, delay_samples: int) -> None:
        self.frame_samples = frame_samples
        self._factor, self._delay_samples = factor, delay_samples
        self._buffer = np.zeros(0, np.float32)

    def stream(self) -> VoiceDetector:
        return FakeDetector(self.frame_samples, self._factor, self._delay_samples)

    def push(self, samples: Samples) -> NDArray[np.float32]:
        self._buffer = np.concatenate([self._buffer, samples])
        ready = max(0, len(self._buffer) - self._delay_samples) // self.frame_samples * self.frame_samples
        ready_samples, self._buffer = self._buffer[:ready], self._buffer[ready:]
        return ready_samples[:: self.frame_samples] * self._factor

    def flush(self) -> NDArray[np.float32]:
        return self._buffer[:: self.frame_samples] * self._factor


def first_probabilities(speech_spans: list[tuple[int, int]]) -> NDArray[np.float32]:
    """The first detector's: speech in these spans, elsewhere less than the onset of speech."""
    probabilities = np.random.default_rng(0).random(FRAMES).astype(np.float32) * 0.3
    for first, last in speech_spans:
        probabilities[first:last] = 0.8
    return probabilities


@pytest.mark.parametrize(
    "speech_spans",
    [
        [],
        [(0, 1)],
        [(FRAMES - 1, FRAMES)],
        [(100, 200), (900, 901), (3000, 9000)],
        [(1000, 1010), (1011 + 2 * int(GUARD_SECONDS * 250), 4000), (11_000, 11_500)],
        [(0, FRAMES)],
    ],
)
@pytest.mark.parametrize("delay", [0, 50_000])
def test_the_second_detector_counts_in_long_silences_of_the_first_in_any_blocks(
    speech_spans: list[tuple[int, int]], delay: int
) -> None:
    probabilities = first_probabilities(speech_spans)
    guard = int(GUARD_SECONDS * SAMPLE_RATE / FRAME)
    near = np.convolve(probabilities >= ONSET, np.ones(2 * guard + 1), "same") > 0.5
    expected = np.where(near, probabilities, np.maximum(probabilities, 3 * probabilities - MARGIN))
    assert near.all() or (expected >= ONSET).sum() > (probabilities >= ONSET).sum()
    sound = np.repeat(probabilities, FRAME)[: -FRAME // 2]  # the last frame is not whole
    for edges in ([], [10, 700, 701, 50_000, 50_001, 400_000], list(range(0, len(sound), 16_000))):
        stream = CombinedVad(
            FakeDetector(FRAME, 1, delay_samples=0), FakeDetector(32, 3, delay_samples=delay)
        ).stream()
        output = [stream.push(block) for block in np.split(sound, edges)]
        assert np.allclose(np.concatenate([*output, stream.flush()]), expected, atol=1e-6)


def test_fading_speech_is_not_silence() -> None:
    """Frames that do not end a run of speech for the chunk planner."""
    probabilities = first_probabilities([(1000, 1100)])
    probabilities[1100:3000] = 0.4  # neither begins speech nor ends it
    probabilities[3000:] = np.minimum(probabilities[3000:], 0.2)
    sound = np.repeat(probabilities, FRAME)
    stream = CombinedVad(FakeDetector(FRAME, 1, delay_samples=0), FakeDetector(32, 3, delay_samples=0)).stream()
    output = np.concatenate([stream.push(sound[:100_000]), stream.push(sound[100_000:]), stream.flush()])
    guard = int(GUARD_SECONDS * SAMPLE_RATE / FRAME)
    assert np.array_equal(output[1000 - guard : 3000 + guard], probabilities[1000 - guard : 3000 + guard])
    assert (output[3000 + guard :] > probabilities[3000 + guard :]).any()


def test_room_noise_between_speech_is_not_speech() -> None:
    catalogue = Catalogue(MODELS)
    speech = load_recording("jfk.flac")
    for seconds in (7, 9, 12):
        room = np.random.default_rng(seconds).normal(0, 0.002, (seconds + 22) * SAMPLE_RATE).astype(np.float32)
        room[: len(speech)] += speech
        room[-len(speech) :] += speech
        found = list(cut([room], load_vad(catalogue, VadEngine.COMBINED).stream()))
        assert len(found) == 2, seconds


def test_the_second_detector_does_not_change_the_cuts_of_near_speech() -> None:
    catalogue = Catalogue(MODELS)
    samples = np.concatenate([load_recording("ocean_0036.flac"), load_recording("demo.flac")])
    spans = [
        [(chunk.stretches, len(chunk.samples)) for chunk in cut([samples], load_vad(catalogue, name).stream())]
        for name in (VadEngine.SILERO, VadEngine.COMBINED)
    ]
    assert len(spans[0]) > 2
    assert spans[0] == spans[1]


def test_a_distant_voice_in_a_long_silence_is_detected() -> None:
    catalogue = Catalogue(MODELS)
    random = np.random.default_rng(0)
    room = random.normal(0, 0.0005, 60 * SAMPLE_RATE).astype(np.float32)
    near, far = load_recording("jfk.flac"), load_recording("librivox_0880.flac")
    room[: len(near)] += near
    # behind a wall: no highs, and hardly louder than the room
    muffled = np.convolve(far, np.ones(24, np.float32) / 24, "same") * 0.012
    at = 40 * SAMPLE_RATE
    room[at : at + len(muffled)] += muffled.astype(np.float32)

    def after(name: VadEngine) -> float:
        found = [c for c in cut([room], load_vad(catalogue, name).stream()) if c.timeline.end > 30]
        return sum(len(chunk.samples) for chunk in found) / SAMPLE_RATE

    assert after(VadEngine.SILERO) < after(VadEngine.COMBINED)
