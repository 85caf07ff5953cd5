"""The manifest of a training set: what it holds and how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from speech.training.dataset.filters import Filters, Reason
from speech.training.dataset.paths import Split
from speech.training.dataset.text import Cleaning


@dataclass(frozen=True, slots=True)
class SplitCount:
    """Totals of a split."""

    clips: int
    seconds: float
    persons: int

    def to_json(self) -> dict[str, Any]:
        return {"clips": self.clips, "hours": _hours(self.seconds), "persons": self.persons}


@dataclass(frozen=True, slots=True)
class WithdrawnClips:
    """Clips that were erased from a set after it was written. Copies of the set must lose them too."""

    export: str
    """The id of the set."""
    at: datetime
    seconds: float
    paths: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "export": self.export,
            "at": self.at.isoformat(),
            "hours": _hours(self.seconds),
            "clips": list(self.paths),
        }


def _hours(seconds: float) -> float:
    return round(seconds / 3600, 4)


def build_manifest(
    *,
    id: str,
    tenant: str,
    date: date,
    created_at: datetime,
    window: tuple[datetime, datetime],
    filters: Filters,
    cleaning: Cleaning,
    splits: Mapping[Split, SplitCount],
    rejections: Mapping[Reason, int],
    models: Mapping[str, int],
    languages: Mapping[str, float],
    sources: Mapping[str, float],
    withdrawn: Sequence[WithdrawnClips],
    files: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The manifest as JSON.

    ``window`` is the span of the export. ``models`` counts the recordings that each model transcribed.
    ``withdrawn`` is of this set and of earlier ones.
    ``languages`` and ``sources`` are given in seconds and written in hours. ``files`` has ``sha256`` and ``bytes``
    by path.
    """
    since, until = window
    return {
        "id": id,
        "tenant": tenant,
        "date": date.isoformat(),
        "created_at": created_at.isoformat(),
        "window": {"from": since.isoformat(), "until": until.isoformat()},
        "filters": filters.to_json(),
        "cleaning": cleaning.to_json(),
        "splits": {name: count.to_json() for name, count in splits.items()},
        "rejections": {reason.value: rejections[reason] for reason in Reason if rejections.get(reason)},
        "models": dict(sorted(models.items())),
        "languages": {name: _hours(seconds) for name, seconds in sorted(languages.items())},
        "sources": {name: _hours(seconds) for name, seconds in sorted(sources.items())},
        "withdrawn": [clips.to_json() for clips in withdrawn],
        "files": {path: dict(files[path]) for path in sorted(files)},
    }
