"""A stretch of a recording with its words, before anything is known of its fitness as training data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Candidate:
    """One segment of one job. Times are seconds from the start of the recording."""

    job: str
    segment: int
    source: str
    """Where the recording comes from, a label."""
    at: datetime
    """When the recording was uploaded, with its time zone."""
    start: float
    end: float
    text: str
    """What the transcript says."""
    language: str | None
    speaker: str
    """Who talks; a label that no two jobs share."""
    human: bool
    """Whether a person corrected the text."""
    confidence: float
    draft: str | None
    """What the draft model heard in the span; None where it did not listen."""
    refined: str | None
    """What the strong model heard in the span; None where it did not listen."""
    consent: bool
    retained: bool
    """Whether the recording is still within its retention."""
    itn: bool | None = None
    emotion: str | None = None
    event: str | None = None
    """These three as in :class:`speech.text.words.Hypothesis`."""

    @property
    def seconds(self) -> float:
        return self.end - self.start

    @property
    def key(self) -> str:
        """Unique over all jobs; sorts by time within one."""
        return f"{self.job}-{self.segment:06d}"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "at": self.at.isoformat()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Candidate:
        return cls(**{**data, "at": datetime.fromisoformat(data["at"])})
