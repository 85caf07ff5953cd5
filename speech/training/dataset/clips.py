"""A segment that was accepted as training data."""

from __future__ import annotations

from dataclasses import dataclass

from speech.training.dataset.candidates import Candidate
from speech.training.dataset.paths import Split, recording_path


@dataclass(frozen=True, slots=True)
class Clip:
    """``text`` is the cleaned text, ``sha256`` that of the FLAC file."""

    candidate: Candidate
    text: str
    person: int
    split: Split
    sha256: str

    @property
    def path(self) -> str:
        """Of the FLAC file, relative to the root of the set."""
        return f"raw/{recording_path(self.candidate)}/{self.candidate.segment:06d}.flac"

    @property
    def speaker(self) -> str:
        """The person, without a name."""
        return f"P{self.person:07d}"
