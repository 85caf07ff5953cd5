"""A fortnight of corrections in a whole stack: each day's speech is uploaded, transcribed, corrected and exported.

What is due at night is tuned, then tried on the next recordings, and promoted or rolled back by the product.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rapidfuzz.distance import Levenshtein
from rich.table import Table

from benchmarks import learners
from benchmarks.recordings import normalise_words, write_flac
from benchmarks.stack import stack
from db.settings import get_settings
from longhand import Client
from longhand.errors import JobFailed
from speech.engines import Samples
from speech.load import load_vad
from speech.models.catalogue import Catalogue

DAYS = 10
"""Of speech: a tenth each. The rest of the fortnight is the nights that they are learnt in."""
JOBS_AT_ONCE = 4
MAX_TRIAL_JOBS = 200
WRONG_SHARE = 0.1
"""Of the words of corrupted corrections."""


@dataclass
class Fortnight:
    client: Client
    speech: Path
    folder: Path
    measured: Mapping[str, learners.Measured]
    corrupt: bool
    generator: random.Random = field(default_factory=lambda: random.Random(7))

    def run(self, days: int) -> Iterator[list[str]]:
        """A row for each day."""
        people = learners.training(self.speech)
        yield ["0", "-", *self._measure(), "-", ""]
        for day in range(days):
            since = datetime.now(UTC)
            spoken = people[day * len(people) // DAYS : (day + 1) * len(people) // DAYS]
            self._transcribe_and_correct(spoken)
            started = time.monotonic()
            outcome = self._night(since)
            minutes = (time.monotonic() - started) / 60
            seconds = sum(end - start for person in spoken for start, end, _ in person.segments)
            yield [str(day + 1), f"{seconds / 60:.1f}", *self._measure(), f"{minutes:.1f}", outcome]

    def _transcribe_and_correct(self, people: Sequence[learners.Spoken]) -> None:
        words = [word for person in people for word in person.text.split()]
        jobs = [self.client.jobs.submit(person.path, {"language": "en"})["id"] for person in people]
        for number, (person, job) in enumerate(zip(people, jobs, strict=True)):
            self.client.jobs.wait(job)
            reference = person.text
            if self.corrupt:
                reference = self._corrupted(reference, words, nonsense=number == 0)
            segments = self.client.jobs.transcript(job)["segments"]
            for index, text in corrections(segments, reference).items():
                if text.strip():
                    self.client.jobs.correct(job, index, text=text)

    def _corrupted(self, reference: str, words: Sequence[str], *, nonsense: bool) -> str:
        share = 1.0 if nonsense else WRONG_SHARE
        return " ".join(
            self.generator.choice(words) if self.generator.random() < share else word for word in reference.split()
        )

    def _night(self, since: datetime) -> str:
        """Export the day, and wait for what follows. Returns what came of it."""
        known = {version["id"] for version in self.client.versions.list()}
        until = datetime.now(UTC).isoformat()
        self.client.exports.wait(self.client.exports.create(since=since.isoformat(), until=until)["id"])
        failed = []
        # one role's tuning starts the other's
        while running := [
            job for job in self.client.finetunes.list() if job["status"] in ("queued", "processing")
        ]:
            try:
                self.client.finetunes.wait(running[0]["id"])
            except JobFailed as error:
                failed.append(f"failed: {error}")
        new = [version for version in self.client.versions.list() if version["id"] not in known]
        self._try_out()
        outcomes = [self.client.versions.get(version["id"]) for version in new]
        told = [f"{each['role']} {each['number']} {each['state']}: {each['reason']}" for each in outcomes]
        return "\n".join([*failed, *told]) or "nothing was due"

    def _try_out(self) -> None:
        """Short recordings, of which canaries get their share, until none is on trial."""
        pieces = [piece for (piece, *_), _ in self.measured["general"].recordings]
        for number in range(MAX_TRIAL_JOBS // JOBS_AT_ONCE):
            if not any(version["state"] == "canary" for version in self.client.versions.list()):
                return
            jobs = [self._submit([pieces[(number + i) % len(pieces)]]) for i in range(JOBS_AT_ONCE)]
            for job in jobs:
                self.client.jobs.wait(job)

    def _measure(self) -> list[str]:
        """Rates of the drafts and of the final text, for each set."""
        cells = []
        for name in ("draft", "final"):
            rates = learners.rates(self.measured, lambda pieces, name=name: [self._texts(pieces)[name]])  # type: ignore[misc]
            cells += [str(rate) for rate in rates.values()]
        return cells

    def _texts(self, pieces: Sequence[Samples]) -> dict[str, str]:
        job = self._submit(pieces)
        drafts = [event.data["text"] for event in self.client.jobs.events(job) if event.type == "segment.draft"]
        segments = self.client.jobs.transcript(job)["segments"]
        return {"draft": " ".join(drafts), "final": " ".join(segment["text"] for segment in segments)}

    def _submit(self, pieces: Sequence[Samples]) -> str:
        path = self.folder / f"{time.monotonic_ns()}.flac"
        write_flac(path, iter(pieces))
        job: str = self.client.jobs.submit(path, {"language": "en", "training": False})["id"]
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


def measure(speech: Path, days: int, *, corrupt: bool) -> Table:
    settings = get_settings()
    measured = learners.sets(speech, load_vad(Catalogue(settings.models_path)))
    columns = [f"{name}, {kind}" for kind in ("draft", "final") for name in measured]
    table = Table("day", "minutes", *columns, "night, min", "what came of it", title="word error rates")
    with TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {
            "LONGHAND_TRAINING_TENANTS": '["default"]',
            "LONGHAND_FINETUNE_HOURS": "0.1",
            "LONGHAND_CANARY_JOBS": "2",
            "LONGHAND_TORCH_PYTHON": str(settings.torch_python and settings.torch_python.absolute()),
            "LONGHAND_FINETUNE_GENERAL": str((Path(__file__).parents[2] / "tests/data/manifest.jsonl").absolute()),
        }
        with stack(folder / "stack") as (_, client), suppress(KeyboardInterrupt):
            for row in Fortnight(client, speech, folder, measured, corrupt).run(days):
                print("\t".join(row), flush=True)
                table.add_row(*row)
    return table
