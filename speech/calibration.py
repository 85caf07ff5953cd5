"""Calibrates the voice threshold on recordings: ``python -m speech.calibration FOLDER``.

Each recording in the folder is of one person, who is enrolled with the first half of the speech; clips of the
other half are then compared with everybody. The threshold is the smallest that accepts hardly any stranger.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech.audio.media import MediaError, open_media
from speech.engines import SAMPLE_RATE, Embedder, EngineUnavailable, Samples, VoiceModel
from speech.load import load_vad, load_voice
from speech.models.catalogue import Catalogue
from speech.models.names import VoiceEngine

CLIP_SECONDS = 3.0
"""Short, so that the threshold holds for people who say little."""

MIN_ENROLMENT_SECONDS = 5.0
MAX_FALSE_ACCEPT_RATE = 0.01
"""Share of comparisons with strangers that may be accepted."""

AUDIO_SUFFIXES = (".flac", ".wav", ".mp3", ".m4a", ".ogg", ".opus")


@dataclass(frozen=True)
class Calibration:
    """Cosine similarity of clips to their own voice and to others, and the threshold that follows."""

    same: NDArray[np.float64]
    different: NDArray[np.float64]
    top1: float
    """Share of clips whose nearest voice is their own."""

    @property
    def threshold(self) -> float:
        """Few strangers are accepted; halfway between strangers and own voices where the two do not overlap."""
        strangers = float(np.quantile(self.different, 1 - MAX_FALSE_ACCEPT_RATE, method="higher"))
        own = float(self.same.min())
        return (strangers + own) / 2 if own > strangers else float(np.nextafter(strangers, 2))

    def false_accepts(self, threshold: float) -> float:
        return float((self.different >= threshold).mean())

    def false_rejects(self, threshold: float) -> float:
        return float((self.same < threshold).mean())


def remove_pauses(samples: Samples, vad: VoiceModel) -> Samples:
    """The recording's speech alone, so that a clip is all speech."""
    stream = vad.stream()
    speech = np.concatenate([stream.push(samples), stream.flush()]) > 0.5
    return samples[np.repeat(speech, stream.frame_samples)[: len(samples)]]


def calibrate(people: Sequence[Samples], embedder: Embedder, seconds: float = CLIP_SECONDS) -> Calibration:
    """From each person's speech without pauses. Raises ValueError where there is too little."""
    size = round(seconds * SAMPLE_RATE)
    halves = [(speech[: len(speech) // 2], speech[len(speech) // 2 :]) for speech in people]
    usable = [(a, b) for a, b in halves if len(a) >= MIN_ENROLMENT_SECONDS * SAMPLE_RATE and len(b) >= size]
    if len(usable) < 2:
        raise ValueError(f"two people or more must say {2 * max(seconds, MIN_ENROLMENT_SECONDS):g} s each")
    voiceprints = embedder.embed([first for first, _ in usable])
    clips = [
        (person, rest[at : at + size])
        for person, (_, rest) in enumerate(usable)
        for at in range(0, len(rest) - size + 1, size)
    ]
    similarity = embedder.embed([clip for _, clip in clips]) @ voiceprints.T
    own = np.zeros(similarity.shape, bool)
    own[np.arange(len(clips)), [person for person, _ in clips]] = True
    top1 = float((similarity.argmax(axis=1) == own.argmax(axis=1)).mean())
    return Calibration(similarity[own].astype(np.float64), similarity[~own].astype(np.float64), top1)


def read_recordings(folder: Path, vad: VoiceModel) -> list[Samples]:
    """The speech of each recording in a folder. Raises MediaError."""
    people = []
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in AUDIO_SUFFIXES):
        with path.open("rb") as file, open_media(file, max_duration=3600) as media:
            people.append(remove_pauses(np.concatenate(list(media.blocks(seconds=10))), vad))
    return people


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="recordings of one person each")
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument(
        "--engine", default=VoiceEngine.CAMPPLUS_ONNX, choices=[engine.value for engine in VoiceEngine]
    )
    parser.add_argument("--seconds", type=float, default=CLIP_SECONDS, help="length of the clips to be recognised")
    args = parser.parse_args()
    try:
        catalogue = Catalogue(args.models)
        embedder = load_voice(catalogue, VoiceEngine(args.engine), threads=2)
        people = read_recordings(args.folder, load_vad(catalogue))
        result = calibrate(people, embedder, args.seconds)
    except (EngineUnavailable, MediaError, OSError, ValueError) as error:
        print(f"{args.folder} cannot be calibrated on: {error}.", file=sys.stderr)  # noqa: T201
        return 1
    threshold = result.threshold
    print(  # noqa: T201
        f"{len(people)} people, clips of {args.seconds:g} s, {args.engine}\n"
        f"own voice {result.same.mean():.2f} (least {result.same.min():.2f}), "
        f"others {result.different.mean():.2f} (most {result.different.max():.2f})\n"
        f"nearest voice is the right one: {result.top1:.1%}\n"
        f"at {threshold:.2f}: {result.false_accepts(threshold):.1%} strangers accepted, "
        f"{result.false_rejects(threshold):.1%} of their own rejected\n"
        f"LONGHAND_VOICE_THRESHOLD={threshold:.2f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
