from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from speech.catalogue import Catalogue
from speech.engines.base import Samples
from speech.engines.either_vad import MARGIN, EitherStream
from speech.engines.load import load_vad
from speech.engines.names import VadEngine
from tests.conftest import MODELS
from tests.media import DATA
from tests.tasks.test_voices import heard


class Says:
    """A detector that takes the first sample of each of its frames for a probability."""

    def __init__(self, frame_samples: int, late: int) -> None:
        self.frame_samples = frame_samples
        self._late = late
        self._held = np.zeros(0, np.float32)

    def push(self, samples: Samples) -> NDArray[np.float32]:
        self._held = np.concatenate([self._held, samples])
        ready = max(0, len(self._held) - self._late) // self.frame_samples * self.frame_samples
        given, self._held = self._held[:ready], self._held[ready:]
        return given[:: self.frame_samples]

    def flush(self) -> NDArray[np.float32]:
        return self._held[:: self.frame_samples]


def test_either_is_enough_and_blocks_do_not_matter() -> None:
    chance = np.random.default_rng(0)
    sound = np.repeat(chance.random(200).astype(np.float32), 64)
    whole = EitherStream(Says(64, 0), Says(32, 500))
    once = np.concatenate([whole.push(sound), whole.flush()])
    pieces = EitherStream(Says(64, 0), Says(32, 500))
    parts = [pieces.push(block) for block in np.split(sound, [10, 700, 701, 5000])]
    assert np.array_equal(np.concatenate([*parts, pieces.flush()]), once)
    assert np.allclose(once, sound[::64])
    deaf = EitherStream(Says(64, 0), Says(32, 500))
    deaf._detectors[0].push = lambda samples: np.zeros(len(samples) // 64, np.float32)  # type: ignore[method-assign]
    assert np.allclose(np.concatenate([deaf.push(sound), deaf.flush()]), np.maximum(sound[::64] - MARGIN, 0))


def test_real_speech_is_heard_at_least_as_silero_hears_it() -> None:
    catalogue = Catalogue(MODELS)
    samples = heard((DATA / "jfk.flac").name)
    silero, either = (load_vad(catalogue, name).stream() for name in (VadEngine.SILERO, VadEngine.EITHER))
    alone, both = (np.concatenate([one.push(samples), one.flush()]) for one in (silero, either))
    assert len(alone) == len(both)
    assert (both >= alone - 1e-6).all()
    assert (both > 0.5).sum() > (alone > 0.5).sum()
