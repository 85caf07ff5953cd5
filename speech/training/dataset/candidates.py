"""A segment of a recording with its text, before the filters decide on it."""

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
    """Label of the recording's origin."""
    at: datetime
    """When the recording was uploaded, with its time zone."""
    start: float
    end: float
    text: str
    language: str | None
    speaker: str
    """A label that no two jobs share."""
    human: bool
    """Whether a person corrected the text."""
    confidence: float
    draft: str | None
    """The draft model's text of the span; None where it did not run."""
    refined: str | None
    """The refine model's text of the span; None where it did not run."""
    consent: bool
    retained: bool
    """Whether the recording is still within its retention period."""
    itn: bool | None = None
    emotion: str | None = None
    event: str | None = None
    """``itn``, ``emotion`` and ``event`` as in :class:`speech.text.words.Hypothesis`."""

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
