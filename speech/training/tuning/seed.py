"""``python -m speech.training.tuning.seed TRAIN.jsonl FOLDER``: a small SenseVoice where the real one is not."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from speech.conversion.parity.small import ENCODER, build
from speech.engines import Samples
from speech.training.tuning.data import Clip, read_audio, read_list

TRAINABLE = ENCODER | {"output_size": 128, "attention_heads": 4, "linear_units": 512}
LISTENED = 600.0
"""Seconds of audio that the normalisation is taken from: a mean and a deviation need no more."""


def plant(clips: list[Clip], folder: Path, *, seed: int = 7) -> Path:
    """Write FunASR's form of a network that has heard nothing yet, with a vocabulary for these texts.

    Raises ValueError where no clip can be read.
    """
    sounds = _sounds(clips)
    return build(folder, [clip.text for clip in clips], sounds, seed=seed, encoder=TRAINABLE, trainable=True)


def _sounds(clips: list[Clip]) -> list[Samples]:
    sounds: list[Samples] = []
    for source in dict.fromkeys(clip.source for clip in clips):
        if sum(map(len, sounds)) > LISTENED * 16_000:
            break
        try:
            sounds.append(read_audio(source))
        except (OSError, RuntimeError, ValueError) as error:
            logging.warning("%s cannot be read: %s", source, error)
    if not sounds:
        raise ValueError("no clip can be read")
    return sounds


def main() -> None:
    given, folder = map(Path, sys.argv[1:])
    print(plant(read_list(given), folder))  # noqa: T201


if __name__ == "__main__":
    main()
