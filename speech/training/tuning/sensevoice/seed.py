"""``python -m speech.training.tuning.sensevoice.seed TRAIN.jsonl FOLDER``: a small untrained base."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from speech.conversion.parity.small_sensevoice import ENCODER_CONF, build_small_sensevoice
from speech.engines import Samples
from speech.training.tuning.data import Clip, read_audio, read_list

TRAINABLE_ENCODER_CONF = ENCODER_CONF | {"output_size": 128, "attention_heads": 4, "linear_units": 512}
MAX_NORMALISATION_SECONDS = 600.0
"""Audio for the mean and deviation of the features, which need no more."""


def create_seed_model(clips: list[Clip], folder: Path, *, seed: int = 7) -> Path:
    """Write an untrained network in FunASR's form, with a vocabulary for these texts.

    Raises ValueError where no clip can be read.
    """
    texts = [clip.text for clip in clips]
    recordings = _read_recordings(clips)
    return build_small_sensevoice(
        folder, texts, recordings, seed=seed, encoder=TRAINABLE_ENCODER_CONF, trainable=True
    )


def _read_recordings(clips: list[Clip]) -> list[Samples]:
    recordings: list[Samples] = []
    for source in dict.fromkeys(clip.source for clip in clips):
        if sum(map(len, recordings)) > MAX_NORMALISATION_SECONDS * 16_000:
            break
        try:
            recordings.append(read_audio(source))
        except (OSError, RuntimeError, ValueError) as error:
            logging.warning("%s cannot be read: %s", source, error)
    if not recordings:
        raise ValueError("no clip can be read")
    return recordings


def main() -> None:
    clip_list, folder = map(Path, sys.argv[1:])
    print(create_seed_model(read_list(clip_list), folder))  # noqa: T201


if __name__ == "__main__":
    main()
