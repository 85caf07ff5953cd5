"""A fortnight of corrections in a whole stack: each day's speech is uploaded, transcribed, corrected and exported.

What is due at night is tuned, then tried on the next recordings, and promoted or rolled back by the product.
Its days take hours: all is kept in a folder, and a later run goes on from there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Levenshtein
from rich.table import Table

from benchmarks import learners
from benchmarks.recordings import normalise_words, text_of, write_flac
from benchmarks.stack import stack
from db.settings import get_settings
from longhand import Client, JobOptions
from longhand.errors import JobFailed
from speech.engines import Samples
from speech.load import load_vad
from speech.models.catalogue import Catalogue

DAYS = 10
"""Of speech: a tenth each. The rest of the fortnight is the nights that they are learnt in."""
JOBS_AT_ONCE = 4
MAX_TRIAL_JOBS = 200


@dataclass
class Fortnight:
    """Its folder has a line for each day that has ended, and when the current one began."""

    client: Client
    speech: Path
    folder: Path
    measured: Mapping[str, learners.Measured]
    corrupt: bool

    def run(self, days: int) -> Iterator[list[str]]:
        """A row for each day, those of earlier runs first."""
        people = learners.training(self.speech)
        if self.corrupt:
            people = learners.corrupted(people)
        ended = self.folder / "days.jsonl"
        rows = [json.loads(line) for line in ended.read_text().splitlines()] if ended.exists() else []
        yield from (row["cells"] for row in rows)
        for day in range(len(rows), days + 1):
            spoken = people[(day - 1) * len(people) // DAYS : day * len(people) // DAYS] if day else []
            seconds = sum(end - start for person in spoken for start, end, _ in person.segments)
            minutes, outcome = self._day(day, spoken) if day else (0.0, "")
            serving = [v["id"] for v in self.client.versions.list() if v["state"] == "serving"]
            # the same models write the same
            rates = rows[-1]["rates"] if rows and rows[-1]["serving"] == serving else self._measure(day)
            cells = [str(day), f"{seconds / 60:.1f}", *rates, f"{minutes:.1f}", outcome]
            rows.append({"cells": cells, "rates": rates, "serving": serving})
            with ended.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            yield cells

    def _day(self, day: int, people: Sequence[learners.Spoken]) -> tuple[float, str]:
        """Returns the minutes of tuning, and what came of it."""
        began = self.folder / f"day-{day}"
        if not began.exists():
            began.write_text(datetime.now(UTC).isoformat())
        since = datetime.fromisoformat(began.read_text())
        self._transcribe_and_correct(people)
        return self._night(since)

    def _transcribe_and_correct(self, people: Sequence[learners.Spoken]) -> None:
        """What an earlier run has done already is done again in no time: keys tell the jobs that there are."""
        jobs = [
            self.client.jobs.submit(person.path, {"language": "en"}, idempotency_key=person.path.stem)["id"]
            for person in people
        ]
        for person, job in zip(people, jobs, strict=True):
            self.client.jobs.wait(job)
            segments = self.client.jobs.transcript(job)["segments"]
            for index, text in corrections(segments, person.text).items():
                if text.strip():
                    self.client.jobs.correct(job, index, text=text)

    def _night(self, since: datetime) -> tuple[float, str]:
        """Export the day, and wait for what follows."""
        exported = [
            export["id"]
            for export in self.client.exports.list()
            if datetime.fromisoformat(export["since"]) == since and export["error"] is None
        ]
        if not exported:
            until = datetime.now(UTC)
            exported = [self.client.exports.create(since=since.isoformat(), until=until.isoformat())["id"]]
        self.client.exports.wait(exported[0])
        # one role's tuning starts the other's
        while running := [
            job for job in self.client.finetunes.list() if job["status"] in ("queued", "processing")
        ]:
            with suppress(JobFailed):
                self.client.finetunes.wait(running[0]["id"])
        self._try_out(since)
        told = [
            f"failed: {job['error']['message']}"
            for job in self.client.finetunes.list()
            if job["error"] and datetime.fromisoformat(job["created_at"]) >= since
        ]
        new = [v for v in self.client.versions.list() if datetime.fromisoformat(v["created_at"]) >= since]
        told += [f"{each['role']} {each['number']} {each['state']}: {each['reason']}" for each in new]
        return sum(each["metrics"]["seconds"] for each in new) / 60, "\n".join(told) or "nothing was due"

    def _try_out(self, since: datetime) -> None:
        """Short recordings, of which canaries get their share, until none is on trial."""
        pieces = [piece for (piece, *_), _ in self.measured["general"].recordings]
        for number in range(MAX_TRIAL_JOBS // JOBS_AT_ONCE):
            if not any(version["state"] == "canary" for version in self.client.versions.list()):
                return
            keys = [f"trial {since.isoformat()} {number * JOBS_AT_ONCE + i}" for i in range(JOBS_AT_ONCE)]
            jobs = [self._submit([pieces[(number + i) % len(pieces)]], key) for i, key in enumerate(keys)]
            for job in jobs:
                self.client.jobs.wait(job)

    def _measure(self, day: int) -> list[str]:
        """Rates of the drafts and of the final text, for each set."""
        heard = {
            id(pieces): self._texts(pieces, f"day {day} {name} {number}")
            for name, measured in self.measured.items()
            for number, (pieces, _) in enumerate(measured.recordings)
        }
        cells = []
        for kind in ("draft", "final"):
            rates = learners.rates(self.measured, lambda pieces, kind=kind: [heard[id(pieces)][kind]])  # type: ignore[misc]
            cells += [str(rate) for rate in rates.values()]
        return cells

    def _texts(self, pieces: Sequence[Samples], key: str) -> dict[str, str]:
        job = self._submit(pieces, key)
        events = [event.data for event in self.client.jobs.events(job) if event.type == "segment.draft"]
        # chunks are drafted side by side
        drafts = sorted(events, key=lambda draft: draft["index"])
        segments = self.client.jobs.transcript(job)["segments"]
        return {"draft": text_of(drafts), "final": text_of(segments)}

    def _submit(self, pieces: Sequence[Samples], key: str) -> str:
        path = self.folder / "submitted.flac"
        write_flac(path, iter(pieces))
        options: JobOptions = {"language": "en", "training": False}
        job: str = self.client.jobs.submit(path, options, idempotency_key=key)["id"]
        path.unlink()
        return job


def corrections(segments: Sequence[Mapping[str, Any]], reference: str) -> dict[int, str]:
    """The text of each segment as somebody who knows the reference leaves it: what is right stays as written."""
    words = [(segment["index"], word) for segment in segments for word in segment["text"].split()]
    tokens = [(place, token) for place, (_, word) in enumerate(words) for token in normalise_words(word).split()]
    wanted = [(word, token) for word in reference.split() for token in normalise_words(word).split()]
    kept: dict[int, int] = {}
    written: dict[int, list[tuple[int, str]]] = {segment["index"]: [] for segment in segments}
    index = words[0][0] if words else None
    for code in Levenshtein.opcodes([token for _, token in tokens], [token for _, token in wanted]):
        for offset, (word, _) in enumerate(wanted[code.dest_start : code.dest_end]):
            place = tokens[min(code.src_start + offset, len(tokens) - 1)][0] if tokens else 0
            if tokens:
                index = words[place][0]
            if index is None:
                return {}
            if code.tag == "equal":
                # digits are several tokens of one word
                if kept.get(index) != place:
                    written[index].append((place, words[place][1]))
                kept[index] = place
            else:
                written[index].append((place, word))
    return {number: " ".join(word for _, word in texts) for number, texts in written.items()}


def measure(
    speech: Path, days: int, roles: Sequence[str], options: Mapping[str, float], folder: Path, *, corrupt: bool
) -> Table:
    """Goes on where an earlier run in the folder was broken off. ``options`` are the tuning's."""
    settings = get_settings()
    measured = learners.sets(speech, load_vad(Catalogue(settings.models_path)))
    columns = [f"{name}, {kind}" for kind in ("draft", "final") for name in measured]
    table = Table("day", "minutes", *columns, "tuning, min", "what came of it", title="word error rates")
    folder = folder.absolute() / ("corrupted" if corrupt else "fortnight")
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {
        "LONGHAND_TRAINING_TENANTS": '["default"]',
        "LONGHAND_EXPORT_HOUR": "23",  # that a day is exported once, also where it goes past midnight
        "LONGHAND_FINETUNE_HOURS": "0.1",
        "LONGHAND_FINETUNE_ROLES": json.dumps(roles),
        "LONGHAND_CANARY_JOBS": "2",
        "LONGHAND_TORCH_PYTHON": str(settings.torch_python and settings.torch_python.absolute()),
        "LONGHAND_FINETUNE_GENERAL": str((Path(__file__).parents[2] / "tests/data/manifest.jsonl").absolute()),
        **{f"LONGHAND_FINETUNE_{name.upper()}": str(value) for name, value in options.items()},
    }
    with stack(folder / "stack") as (_, client), suppress(KeyboardInterrupt):
        for row in Fortnight(client, speech, folder, measured, corrupt).run(days):
            print("\t".join(row), flush=True)
            table.add_row(*row)
    return table
