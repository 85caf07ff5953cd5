from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from speech.audio.chunking import cut
from speech.audio.vad.combined import GUARD_SECONDS, SECOND_DETECTOR_MARGIN, START_THRESHOLD, CombinedVad
from speech.engines import SAMPLE_RATE, Samples, VoiceDetector
from speech.load import load_vad
from speech.models.catalogue import Catalogue
from speech.models.names import VadEngine
from tests.conftest import MODELS
from tests.tasks.test_voices import load_recording

FRAME = 64
FRAMES = 12_000
"""48 s."""


class Says:
    """A detector that takes the first sample of each of its frames, so many times, for a probability."""

    def __init__(self, frame_samples: int, times: float, late: int) -> None:
        self.frame_samples = frame_samples
        self._times, self._late = times, late
        self._held = np.zeros(0, np.float32)

    def stream(self) -> VoiceDetector:
        return Says(self.frame_samples, self._times, self._late)

    def push(self, samples: Samples) -> NDArray[np.float32]:
        self._held = np.concatenate([self._held, samples])
        ready = max(0, len(self._held) - self._late) // self.frame_samples * self.frame_samples
        given, self._held = self._held[:ready], self._held[ready:]
        return given[:: self.frame_samples] * self._times

    def flush(self) -> NDArray[np.float32]:
        return self._held[:: self.frame_samples] * self._times


def faint(spoken: list[tuple[int, int]]) -> NDArray[np.float32]:
    """What the first makes of each frame: speech in these spans, else less than it takes for speech."""
    said = np.random.default_rng(0).random(FRAMES).astype(np.float32) * 0.3
    for first, last in spoken:
        said[first:last] = 0.8
    return said


@pytest.mark.parametrize(
    "spoken",
    [
        [],
        [(0, 1)],
        [(FRAMES - 1, FRAMES)],
        [(100, 200), (900, 901), (3000, 9000)],
        [(1000, 1010), (1011 + 2 * int(GUARD_SECONDS * 250), 4000), (11_000, 11_500)],
        [(0, FRAMES)],
    ],
)
@pytest.mark.parametrize("late", [0, 50_000])
def test_the_second_counts_in_long_silences_of_the_first_and_blocks_do_not_matter(
    spoken: list[tuple[int, int]], late: int
) -> None:
    said = faint(spoken)
    apart = int(GUARD_SECONDS * SAMPLE_RATE / FRAME)
    near = np.convolve(said >= START_THRESHOLD, np.ones(2 * apart + 1), "same") > 0.5
    expected = np.where(near, said, np.maximum(said, 3 * said - SECOND_DETECTOR_MARGIN))
    assert near.all() or (expected >= START_THRESHOLD).sum() > (said >= START_THRESHOLD).sum()
    sound = np.repeat(said, FRAME)[: -FRAME // 2]  # the last frame is not whole
    for edges in ([], [10, 700, 701, 50_000, 50_001, 400_000], list(range(0, len(sound), 16_000))):
        stream = CombinedVad(Says(FRAME, 1, late=0), Says(32, 3, late=late)).stream()
        given = [stream.push(block) for block in np.split(sound, edges)]
        assert np.allclose(np.concatenate([*given, stream.flush()]), expected, atol=1e-6)


def test_speech_that_fades_is_left_to_the_first() -> None:
    """Frames that end no run of speech for the planner are none of a silence's."""
    said = faint([(1000, 1100)])
    said[1100:3000] = 0.4  # neither begins speech nor ends it
    said[3000:] = np.minimum(said[3000:], 0.2)
    sound = np.repeat(said, FRAME)
    stream = CombinedVad(Says(FRAME, 1, late=0), Says(32, 3, late=0)).stream()
    given = np.concatenate([stream.push(sound[:100_000]), stream.push(sound[100_000:]), stream.flush()])
    apart = int(GUARD_SECONDS * SAMPLE_RATE / FRAME)
    assert np.array_equal(given[1000 - apart : 3000 + apart], said[1000 - apart : 3000 + apart])
    assert (given[3000 + apart :] > said[3000 + apart :]).any()


def test_a_room_between_two_speeches_is_no_voice() -> None:
    catalogue = Catalogue(MODELS)
    speech = load_recording("jfk.flac")
    for seconds in (7, 9, 12):
        room = np.random.default_rng(seconds).normal(0, 0.002, (seconds + 22) * SAMPLE_RATE).astype(np.float32)
        room[: len(speech)] += speech
        room[-len(speech) :] += speech
        found = list(cut([room], load_vad(catalogue, VadEngine.SILERO_PYANNOTE).stream()))
        assert len(found) == 2, seconds


def test_speech_that_is_heard_is_cut_as_if_the_second_were_not_there() -> None:
    catalogue = Catalogue(MODELS)
    samples = np.concatenate([load_recording("ocean_0036.flac"), load_recording("demo.flac")])
    spans = [
        [(chunk.start_samples, len(chunk.samples)) for chunk in cut([samples], load_vad(catalogue, name).stream())]
        for name in (VadEngine.SILERO, VadEngine.SILERO_PYANNOTE)
    ]
    assert len(spans[0]) > 2
    assert spans[0] == spans[1]


def test_a_far_voice_in_a_long_silence_is_heard() -> None:
    catalogue = Catalogue(MODELS)
    chance = np.random.default_rng(0)
    room = chance.normal(0, 0.0005, 60 * SAMPLE_RATE).astype(np.float32)
    near, far = load_recording("jfk.flac"), load_recording("librivox_0880.flac")
    room[: len(near)] += near
    # behind a wall: no highs, and hardly louder than the room
    muffled = np.convolve(far, np.ones(24, np.float32) / 24, "same") * 0.012
    at = 40 * SAMPLE_RATE
    room[at : at + len(muffled)] += muffled.astype(np.float32)

    def after(name: VadEngine) -> float:
        found = [c for c in cut([room], load_vad(catalogue, name).stream()) if c.start_samples > 30 * SAMPLE_RATE]
        return sum(len(chunk.samples) for chunk in found) / SAMPLE_RATE

    assert after(VadEngine.SILERO) < after(VadEngine.SILERO_PYANNOTE)
