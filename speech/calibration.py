"""From which likeness on two voiceprints are one person: ``python -m speech.calibration FOLDER``.

Every recording in the folder holds one person. Each is enrolled with the first half of what is said; clips of the
other half are then compared with everybody. The threshold is the smallest at which hardly a stranger is let in.
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
"""Little speech, for thresholds that hold for those who say little."""

ENROLMENT_SECONDS = 5.0
MAX_FALSE_ACCEPTS = 0.01
"""Share of comparisons with strangers that may be taken for the enrolled person."""

AUDIO = (".flac", ".wav", ".mp3", ".m4a", ".ogg", ".opus")


@dataclass(frozen=True)
class Calibration:
    """Likeness of clips to their own voice and to others', and what follows."""

    same: NDArray[np.float64]
    different: NDArray[np.float64]
    top1: float
    """Share of clips whose nearest voice is their own."""

    @property
    def threshold(self) -> float:
        """Few strangers pass; and halfway to one's own voice where there is a gap between the two."""
        strangers = float(np.quantile(self.different, 1 - MAX_FALSE_ACCEPTS, method="higher"))
        own = float(self.same.min())
        return (strangers + own) / 2 if own > strangers else float(np.nextafter(strangers, 2))

    def false_accepts(self, threshold: float) -> float:
        return float((self.different >= threshold).mean())

    def false_rejects(self, threshold: float) -> float:
        return float((self.same < threshold).mean())


def without_pauses(samples: Samples, vad: VoiceModel) -> Samples:
    """The recording without its pauses: a clip then holds the speech that its length says."""
    stream = vad.stream()
    speech = np.concatenate([stream.push(samples), stream.flush()]) > 0.5
    return samples[np.repeat(speech, stream.frame_samples)[: len(samples)]]


def calibrate(people: Sequence[Samples], embedder: Embedder, seconds: float = CLIP_SECONDS) -> Calibration:
    """From what each of several people says, without pauses. Raises ValueError when there is too little of it."""
    size = round(seconds * SAMPLE_RATE)
    halves = [(said[: len(said) // 2], said[len(said) // 2 :]) for said in people]
    enough = [(a, b) for a, b in halves if len(a) >= ENROLMENT_SECONDS * SAMPLE_RATE and len(b) >= size]
    if len(enough) < 2:
        raise ValueError(f"two people or more must say {2 * max(seconds, ENROLMENT_SECONDS):g} s each")
    voices = embedder.embed([first for first, _ in enough])
    clips = [
        (who, rest[at : at + size])
        for who, (_, rest) in enumerate(enough)
        for at in range(0, len(rest) - size + 1, size)
    ]
    likeness = embedder.embed([clip for _, clip in clips]) @ voices.T
    own = np.zeros(likeness.shape, bool)
    own[np.arange(len(clips)), [who for who, _ in clips]] = True
    top1 = float((likeness.argmax(axis=1) == own.argmax(axis=1)).mean())
    return Calibration(likeness[own].astype(np.float64), likeness[~own].astype(np.float64), top1)


def read(folder: Path, vad: VoiceModel) -> list[Samples]:
    """What is said in each recording of a folder. Raises MediaError."""
    people = []
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in AUDIO):
        with path.open("rb") as file, open_media(file, max_duration=3600) as media:
            people.append(without_pauses(np.concatenate(list(media.blocks(seconds=10))), vad))
    return people


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="recordings of one person each")
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument(
        "--engine", default=VoiceEngine.CAMPPLUS_ONNX, choices=[engine.value for engine in VoiceEngine]
    )
    parser.add_argument("--seconds", type=float, default=CLIP_SECONDS, help="length of the clips to be recognised")
    given = parser.parse_args()
    try:
        catalogue = Catalogue(given.models)
        embedder = load_voice(catalogue, VoiceEngine(given.engine), threads=2)
        people = read(given.folder, load_vad(catalogue))
        found = calibrate(people, embedder, given.seconds)
    except (EngineUnavailable, MediaError, OSError, ValueError) as error:
        print(f"{given.folder} cannot be calibrated on: {error}.", file=sys.stderr)  # noqa: T201
        return 1
    threshold = found.threshold
    print(  # noqa: T201
        f"{len(people)} people, clips of {given.seconds:g} s, {given.engine}\n"
        f"own voice {found.same.mean():.2f} (least {found.same.min():.2f}), "
        f"others {found.different.mean():.2f} (most {found.different.max():.2f})\n"
        f"nearest voice is the right one: {found.top1:.1%}\n"
        f"at {threshold:.2f}: {found.false_accepts(threshold):.1%} strangers accepted, "
        f"{found.false_rejects(threshold):.1%} of their own rejected\n"
        f"LONGHAND_VOICE_THRESHOLD={threshold:.2f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
